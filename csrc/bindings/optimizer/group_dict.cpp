#include "bindings/optimizer/group_dict.h"

#include <cfloat>
#include <cmath>
#include <string>

namespace subgrad {
namespace {

// A number >= 0 of a key that torch's own groups lack, or what the term is without it.
double own_number(PyObject* dict, PyObject* key, const SgdField& field, std::size_t group,
                  bool& torchs) {
  PyObject* const item = dict_item(dict, key);
  if (item == nullptr || (field.optional && item == Py_None)) return SgdParams().*field.number;
  const double value = number(dict, key, torchs);
  if (!(value >= 0.0)) {
    throw py::value_error("param_groups[" + std::to_string(group) + "][" +
                          std::string(py::repr(key)) + "]: expected a number >= 0, got " +
                          std::string(py::repr(item)));
  }
  return value;
}

// The key of a hyper-parameter, by its number in kSgdFields.
PyObject* sgd_key(int field) {
  struct Keys {
    PyObject* keys[kSgdFieldCount];
    Keys() {
      for (int i = 0; i < kSgdFieldCount; ++i) keys[i] = interned(kSgdFields[i].name);
    }
  };
  static const Keys all;
  return all.keys[field];
}

}  // namespace

PyObject* interned(const char* name) { return PyUnicode_InternFromString(name); }

PyObject* dict_item(PyObject* dict, PyObject* key) {
  PyObject* item = PyDict_GetItemWithError(dict, key);
  if (item == nullptr && PyErr_Occurred()) throw py::error_already_set();
  return item;
}

PyObject* required(PyObject* dict, PyObject* key) {
  PyObject* item = dict_item(dict, key);
  if (item == nullptr) {
    PyErr_SetObject(PyExc_KeyError, key);
    throw py::error_already_set();
  }
  return item;
}

bool truth(PyObject* dict, PyObject* key) {
  PyObject* item = dict_item(dict, key);
  if (item == nullptr) return false;
  const int value = PyObject_IsTrue(item);
  if (value < 0) throw py::error_already_set();
  return value != 0;
}

double number(PyObject* dict, PyObject* key, bool& torchs) {
  PyObject* item = required(dict, key);
  if (!PyFloat_Check(item) && !PyLong_Check(item)) {
    const py::object wants = py::getattr(item, "requires_grad", py::none());
    if (wants.ptr() == Py_True) {
      torchs = true;
      return 0.0;
    }
  }
  const double value = PyFloat_AsDouble(item);
  if (value == -1.0 && PyErr_Occurred()) throw py::error_already_set();
  if (std::isfinite(value) && std::fabs(value) > FLT_MAX) torchs = true;
  return value;
}

void read_sgd_params(PyObject* dict, std::size_t group, bool with_lr, SgdParams& params,
                     bool& torchs) {
  for (int i = with_lr ? 0 : 1; i < kSgdFieldCount; ++i) {
    const SgdField& field = kSgdFields[i];
    PyObject* const key = sgd_key(i);
    if (field.home == SgdHome::step) continue;
    if (field.flag != nullptr) {
      params.*field.flag = truth(dict, key);
    } else if (field.home == SgdHome::torch) {
      params.*field.number = number(dict, key, torchs);
    } else {
      params.*field.number = own_number(dict, key, field, group, torchs);
    }
  }
}

bool plain_values(PyObject* dict, PyObject* except) {
  Py_ssize_t position = 0;
  PyObject *key, *value;
  while (PyDict_Next(dict, &position, &key, &value)) {
    const bool plain = PyFloat_CheckExact(value) || PyLong_CheckExact(value) ||
                       PyBool_Check(value) || value == Py_None;
    if (!plain && key != except) return false;
  }
  return true;
}

std::uint64_t dict_version(PyObject* dict) {
#if PY_VERSION_HEX < 0x030C0000
  return reinterpret_cast<PyDictObject*>(dict)->ma_version_tag;
#else
  (void)dict;
  return 0;
#endif
}

}  // namespace subgrad
