#include "bindings/dense/sgd_params.h"

#include <pybind11/numpy.h>

#include <algorithm>
#include <cmath>
#include <string>

namespace subgrad {
namespace {

struct Object {
  PyObject_HEAD SgdParams params;
};

PyTypeObject* type = nullptr;
PyObject* names[kSgdFieldCount];  // interned, so that keywords are most often told by their address

Object* as_object(PyObject* self) { return reinterpret_cast<Object*>(self); }

std::string repr_of(PyObject* value) { return std::string(py::repr(value)); }

// For a message: of what may hold others, as of tensors, only the type.
std::string shown(PyObject* value) {
  const bool plain = value == Py_None || PyBool_Check(value) || PyLong_Check(value) ||
                     PyFloat_Check(value) || PyUnicode_Check(value) || PyBytes_Check(value) ||
                     PyComplex_Check(value);
  return plain ? repr_of(value) : std::string(Py_TYPE(value)->tp_name);
}

bool is_numpys(PyObject* value, const char* kind) {
  return py::isinstance(value, py::module_::import("numpy").attr(kind));
}

// NumPy would warn, and go on with the real part.
bool is_complex(PyObject* value) {
  return PyComplex_Check(value) || is_numpys(value, "complexfloating");
}

// Whether it is an array of NumPy's with dimensions: of one element NumPy makes a number still.
bool has_elements(PyObject* value) {
  return py::isinstance<py::array>(value) && py::reinterpret_borrow<py::array>(value).ndim() > 0;
}

// The number of the field of that name, or -1.
int field_named(PyObject* name) {
  const auto same = std::find(std::begin(names), std::end(names), name);
  if (same != std::end(names)) return static_cast<int>(same - std::begin(names));
  for (int i = 0; i < kSgdFieldCount; ++i) {
    if (PyUnicode_Compare(name, names[i]) == 0) return i;
  }
  return -1;
}

void set_keyword(SgdParams& params, PyObject* name, PyObject* value, bool& has_lr) {
  const int field = field_named(name);
  if (field < 0 || (field == 0 && has_lr)) {
    throw py::type_error("SgdParams: " + std::string(py::str(name)) +
                         (field < 0 ? " is no hyper-parameter" : " is given twice"));
  }
  has_lr = has_lr || field == 0;
  set_sgd_field(params, kSgdFields[field], value);
}

PyObject* finish(const SgdParams& params, bool has_lr) {
  if (!has_lr) throw py::type_error("SgdParams: lr is missing");
  check_sgd_params(params);
  return make_sgd_params(params).release().ptr();
}

template <class Body>
PyObject* translated(const Body& body) {
  try {
    return body();
  } catch (...) {
    py::detail::try_translate_exceptions();
    return nullptr;
  }
}

void set_positional(SgdParams& params, PyObject* const* arguments, Py_ssize_t count, bool& has_lr) {
  if (count > 1) throw py::type_error("SgdParams: all but lr are given by keyword");
  if (count == 1) set_keyword(params, names[0], arguments[0], has_lr);
}

PyObject* construct(PyObject*, PyObject* const* arguments, size_t flags, PyObject* keywords) {
  return translated([&] {
    SgdParams params;
    bool has_lr = false;
    const Py_ssize_t count = PyVectorcall_NARGS(flags);
    set_positional(params, arguments, count, has_lr);
    const Py_ssize_t named = keywords == nullptr ? 0 : PyTuple_GET_SIZE(keywords);
    for (Py_ssize_t i = 0; i < named; ++i) {
      set_keyword(params, PyTuple_GET_ITEM(keywords, i), arguments[count + i], has_lr);
    }
    return finish(params, has_lr);
  });
}

// The same for callers that have a tuple and a dict, copy and pickle among them.
PyObject* construct_new(PyTypeObject*, PyObject* arguments, PyObject* keywords) {
  return translated([&] {
    SgdParams params;
    bool has_lr = false;
    set_positional(params, PySequence_Fast_ITEMS(arguments), PyTuple_GET_SIZE(arguments), has_lr);
    Py_ssize_t at = 0;
    PyObject *name, *value;
    while (keywords != nullptr && PyDict_Next(keywords, &at, &name, &value)) {
      set_keyword(params, name, value, has_lr);
    }
    return finish(params, has_lr);
  });
}

py::object value_of(const SgdParams& params, const SgdField& field) {
  if (field.flag != nullptr) return py::bool_(params.*field.flag);
  if (field.optional && params.*field.number == kAbsent) return py::none();
  return py::float_(params.*field.number);
}

PyObject* get_field(PyObject* self, void* closure) {
  return value_of(as_object(self)->params, *static_cast<const SgdField*>(closure)).release().ptr();
}

bool same_field(const SgdParams& a, const SgdParams& b, const SgdField& field) {
  return field.flag != nullptr ? a.*field.flag == b.*field.flag
                               : a.*field.number == b.*field.number;
}

PyObject* compare(PyObject* a, PyObject* b, int operation) {
  const SgdParams *x = find_sgd_params(a), *y = find_sgd_params(b);
  if (x == nullptr || y == nullptr || (operation != Py_EQ && operation != Py_NE)) {
    Py_RETURN_NOTIMPLEMENTED;
  }
  const bool same = std::all_of(std::begin(kSgdFields), std::end(kSgdFields),
                                [&](const SgdField& field) { return same_field(*x, *y, field); });
  return PyBool_FromLong(same == (operation == Py_EQ));
}

py::dict as_dict(const SgdParams& params) {
  py::dict all;
  for (const SgdField& field : kSgdFields) all[field.name] = value_of(params, field);
  return all;
}

// Names what is not as it is by default, and the learning rate.
PyObject* represent(PyObject* self) {
  return translated([&] {
    const SgdParams& params = as_object(self)->params;
    std::string text = "SgdParams(";
    for (const SgdField& field : kSgdFields) {
      const bool first = &field == kSgdFields;
      if (!first && same_field(params, SgdParams(), field)) continue;
      text += (first ? "" : ", ") + std::string(field.name) + "=" +
              std::string(py::repr(value_of(params, field)));
    }
    return py::str(text + ")").release().ptr();
  });
}

PyObject* reduce(PyObject* self, PyObject*) {
  return translated([&] {
    const py::object make = py::module_::import("copyreg").attr("__newobj_ex__");
    const py::object cls = py::reinterpret_borrow<py::object>(reinterpret_cast<PyObject*>(type));
    return py::make_tuple(make, py::make_tuple(cls, py::tuple(), as_dict(as_object(self)->params)))
        .release()
        .ptr();
  });
}

std::string signature() {
  std::string text = "SgdParams(lr, *";
  for (const SgdField& field : kSgdFields) {
    if (&field == kSgdFields) continue;
    text += ", " + std::string(field.name) + "=" +
            (field.flag != nullptr ? "False"
             : field.optional      ? "None"
                                   : "0.0");
  }
  return text +
         ")\n--\n\nThe terms of an SGD step, checked. Cannot be changed; equal if all terms are.";
}

PyTypeObject* make_type() {
  static PyGetSetDef fields[kSgdFieldCount + 1] = {};
  for (int i = 0; i < kSgdFieldCount; ++i) {
    names[i] = PyUnicode_InternFromString(kSgdFields[i].name);
    fields[i] = {kSgdFields[i].name, &get_field, nullptr, nullptr,
                 const_cast<SgdField*>(&kSgdFields[i])};
  }
  static PyMethodDef methods[] = {{"__reduce__", &reduce, METH_NOARGS, nullptr}, {}};
  static const std::string doc = signature();
  PyType_Slot slots[] = {
      {Py_tp_doc, const_cast<char*>(doc.c_str())},
      {Py_tp_new, reinterpret_cast<void*>(&construct_new)},
      {Py_tp_repr, reinterpret_cast<void*>(&represent)},
      {Py_tp_richcompare, reinterpret_cast<void*>(&compare)},
      {Py_tp_hash, reinterpret_cast<void*>(&PyObject_HashNotImplemented)},
      {Py_tp_getset, fields},
      {Py_tp_methods, methods},
      {0, nullptr},
  };
  PyType_Spec spec = {"subgrad_fast._core.SgdParams", int{sizeof(Object)}, 0, Py_TPFLAGS_DEFAULT,
                      slots};
  PyObject* const made = PyType_FromSpec(&spec);
  if (made == nullptr) throw py::error_already_set();
  reinterpret_cast<PyTypeObject*>(made)->tp_vectorcall = &construct;
  return reinterpret_cast<PyTypeObject*>(made);
}

}  // namespace

const SgdParams* find_sgd_params(PyObject* object) {
  return Py_TYPE(object) == type ? &as_object(object)->params : nullptr;
}

py::object make_sgd_params(const SgdParams& params) {
  PyObject* const self = type->tp_alloc(type, 0);
  if (self == nullptr) throw py::error_already_set();
  as_object(self)->params = params;
  return py::reinterpret_steal<py::object>(self);
}

bool read_flag(const char* name, PyObject* value) {
  if (PyBool_Check(value)) return value == Py_True;
  if (is_numpys(value, "bool_")) return PyObject_IsTrue(value) == 1;
  if (PyLong_Check(value) || is_numpys(value, "integer")) {
    const Py_ssize_t number = PyNumber_AsSsize_t(value, nullptr);
    if (number == 0 || number == 1) return number == 1;
  }
  throw py::type_error(std::string(name) + ": expected True or False, got " + shown(value));
}

double read_number(const char* name, PyObject* value) {
  if (PyFloat_Check(value)) return PyFloat_AS_DOUBLE(value);
  const auto refuse = [&] {
    throw py::type_error(std::string(name) + ": expected a number, got " + Py_TYPE(value)->tp_name);
  };
  if (!PyLong_Check(value) && (is_complex(value) || has_elements(value))) refuse();
  const double number = PyFloat_AsDouble(value);
  if (number != -1.0 || !PyErr_Occurred()) return number;
  if (PyErr_ExceptionMatches(PyExc_OverflowError)) {
    PyErr_Clear();
    return py::handle(value) < py::int_(0) ? -HUGE_VAL : HUGE_VAL;
  }
  for (PyObject* wrong : {PyExc_TypeError, PyExc_ValueError, PyExc_RuntimeError}) {
    if (!PyErr_ExceptionMatches(wrong)) continue;
    PyErr_Clear();
    refuse();
  }
  throw py::error_already_set();
}

void set_sgd_field(SgdParams& params, const SgdField& field, PyObject* value) {
  if (field.flag != nullptr) {
    params.*field.flag = read_flag(field.name, value);
    return;
  }
  if (field.optional && value == Py_None) {
    params.*field.number = kAbsent;
    return;
  }
  const double number = read_number(field.name, value);
  // NaN is refused too.
  if (!(field.any_sign ? number == number : number >= 0.0 && (!field.share || number <= 1.0))) {
    const char* const wanted = field.any_sign ? "" : field.share ? " from 0 to 1" : " >= 0";
    throw py::value_error(std::string(field.name) + ": expected a number" + wanted + ", got " +
                          repr_of(value));
  }
  params.*field.number = number;
}

void check_sgd_params(const SgdParams& p) {
  if (p.nesterov && (p.momentum == 0.0 || p.dampening != 0.0)) {
    throw py::value_error("nesterov: needs momentum > 0 and dampening == 0");
  }
}

void register_sgd_params(py::module_& m) {
  using namespace py::literals;
  m.def(
      "read_flag", [](const char* name, py::handle value) { return read_flag(name, value.ptr()); },
      "name"_a, "value"_a);
  m.def(
      "read_number",
      [](const char* name, py::handle value) { return read_number(name, value.ptr()); }, "name"_a,
      "value"_a);
  type = make_type();
  m.add_object("SgdParams", py::handle(reinterpret_cast<PyObject*>(type)));
  py::tuple terms(kSgdFieldCount);
  for (int i = 0; i < kSgdFieldCount; ++i) terms[static_cast<std::size_t>(i)] = kSgdFields[i].name;
  m.attr("SGD_TERMS") = terms;
}

}  // namespace subgrad
