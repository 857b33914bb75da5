#include "bindings/optimizer/group_dict.h"

#include <cfloat>
#include <cmath>
#include <string>

namespace subgrad {

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

double l1_of(PyObject* dict, std::size_t group, bool& torchs) {
  static PyObject* const key = interned("l1");
  if (dict_item(dict, key) == nullptr) return 0.0;
  const double l1 = number(dict, key, torchs);
  if (!(l1 >= 0.0)) {
    throw py::value_error("param_groups[" + std::to_string(group) +
                          "]['l1']: expected a number >= 0, got " +
                          std::string(py::repr(dict_item(dict, key))));
  }
  return l1;
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
