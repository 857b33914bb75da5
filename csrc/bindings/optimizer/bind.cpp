// The plan behind optim.SGD, and what its steps come to.
#include <pybind11/stl.h>

#include "bindings/border/buffers.h"
#include "bindings/border/collected.h"
#include "bindings/border/registrars.h"
#include "bindings/dense/sgd_params.h"
#include "bindings/optimizer/forget.h"
#include "bindings/optimizer/group_dict.h"
#include "bindings/optimizer/plan.h"

namespace subgrad {
namespace {

// OptimizerPlan.step by Python's own calling convention: in a training loop over 160 small tensors
// pybind11's dispatch took some 3% of the step.
PyObject* optimizer_step(PyObject* self, PyObject* const* arguments, Py_ssize_t count) {
  try {
    if (count < 2 || count > 3) {
      throw py::type_error("step: expected param_groups, state and options");
    }
    const GivenOptions* options = nullptr;
    if (count == 3 && arguments[2] != Py_None) {
      options = py::handle(arguments[2]).cast<const GivenOptions*>();
    }
    auto* const instance = reinterpret_cast<py::detail::instance*>(self);
    auto* const plan = instance->get_value_and_holder().value_ptr<OptimizerPlan>();
    if (plan == nullptr) throw py::type_error("step: __init__() was not called");
    // Others than those that it was made for.
    if (!PyList_Check(arguments[0]) || !PyDict_Check(arguments[1])) {
      return plan->stale().release().ptr();
    }
    return plan
        ->step(py::reinterpret_borrow<py::list>(arguments[0]),
               py::reinterpret_borrow<py::dict>(arguments[1]), options)
        .release()
        .ptr();
  } catch (...) {
    py::detail::try_translate_exceptions();
    return nullptr;
  }
}

void add_optimizer_step(const py::handle& type) {
  static PyMethodDef method = {
      "step", reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(&optimizer_step)),
      METH_FASTCALL, "step($self, param_groups, state, options=None, /)\n--\n\n"};
  PyObject* const step = PyDescr_NewMethod(reinterpret_cast<PyTypeObject*>(type.ptr()), &method);
  if (step == nullptr) throw py::error_already_set();
  type.attr("step") = py::reinterpret_steal<py::object>(step);
}

}  // namespace

void register_optimizer(py::module_& m) {
  using namespace py::literals;

  py::register_local_exception<Overlap>(m, "OverlapError", PyExc_ValueError);
  m.def("new_buffer", &new_buffer, "like"_a, "zeros"_a = false);

  // Of a group as it is, whatever its numbers: torch checks them when they are given to it.
  m.def(
      "read_group",
      [](const py::dict& group, std::size_t index) {
        SgdParams params;
        bool torchs = false;
        read_sgd_params(group.ptr(), index, true, params, torchs);
        return params;
      },
      "group"_a, "index"_a);

  m.def("forget_gradients", &forget_gradients, "param_groups"_a, "turns"_a);
  m.def("zero_gradients", &zero_gradients, "param_groups"_a);

  py::class_<Remaining>(m, "Remaining")
      .def_readonly("group", &Remaining::group)
      .def_readonly("param", &Remaining::param)
      .def_readonly("other_layout", &Remaining::other_layout);
  py::class_<Outcome>(m, "Outcome")
      .def_property_readonly("done", [](const Outcome& o) { return o.kind == Outcome::Kind::done; })
      .def_property_readonly("stale",
                             [](const Outcome& o) { return o.kind == Outcome::Kind::stale; })
      .def_readonly("remaining", &Outcome::remaining);

  py::class_<OptimizerPlan> plan(m, "Plan", collected<OptimizerPlan>());
  plan.def(py::init<const py::list&, const py::dict&, const py::list&>(), "param_groups"_a,
           "state"_a, "entries"_a)
      .def("judge", &OptimizerPlan::judge, "others"_a, "squares"_a = py::none(),
           py::return_value_policy::copy)
      .def("squares", &OptimizerPlan::squares)
      .def("finish", &OptimizerPlan::finish, "row_steps"_a, "slots"_a)
      .def("forget", &OptimizerPlan::forget)
      .def_property_readonly("clipping", &OptimizerPlan::clipping, py::return_value_policy::copy);
  add_optimizer_step(plan);
}

}  // namespace subgrad
