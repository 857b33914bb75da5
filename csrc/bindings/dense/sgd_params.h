// `_core.SgdParams`: the terms of an SGD step as one value of Python's, made and checked once and
// handed on whole. Bindings take it as `const SgdParams&`.
//
// It is a type of its own and not pybind11's, whose constructors take about as long as a small step
// does: one is made for every call of sgd_step.
#pragma once

#include <pybind11/pybind11.h>

#include "core/sgd_params.h"

namespace subgrad {

namespace py = pybind11;

void register_sgd_params(py::module_& m);

// The value inside an object; null for any other type.
const SgdParams* find_sgd_params(PyObject* object);
py::object make_sgd_params(const SgdParams& params);

// True or False, of NumPy's too, or 0 or 1; a number, or what one element of torch's makes one. A
// number beyond float64 is infinite. Throws TypeError naming the argument for anything else: text
// has a truth and a list has one, but whoever gives such means something else.
bool read_flag(const char* name, PyObject* value);
double read_number(const char* name, PyObject* value);

// Throws TypeError or ValueError naming the field, for a value that it cannot have.
void set_sgd_field(SgdParams& params, const SgdField& field, PyObject* value);

// What the fields mean together. Throws ValueError.
void check_sgd_params(const SgdParams& params);

}  // namespace subgrad

template <>
struct pybind11::detail::type_caster<subgrad::SgdParams> {
  PYBIND11_TYPE_CASTER(subgrad::SgdParams, const_name("SgdParams"));

  bool load(handle source, bool) {
    const subgrad::SgdParams* found = subgrad::find_sgd_params(source.ptr());
    if (found == nullptr) return false;
    value = *found;
    return true;
  }
  static handle cast(const subgrad::SgdParams& params, return_value_policy, handle) {
    return subgrad::make_sgd_params(params).release();
  }
};
