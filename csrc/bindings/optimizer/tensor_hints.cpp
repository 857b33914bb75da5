#include "bindings/optimizer/tensor_hints.h"

#include <pybind11/pybind11.h>

namespace subgrad {

bool has_known_layout(PyObject* tensor) {
  namespace py = pybind11;
  const py::object told = py::getattr(tensor, "_cdata", py::none());
  if (!PyLong_Check(told.ptr())) return false;
  if (Py_TYPE(tensor)->tp_basicsize < Py_ssize_t{sizeof(PyObject) + sizeof(void*)}) return false;
  const void* const address = PyLong_AsVoidPtr(told.ptr());
  if (PyErr_Occurred()) return PyErr_Clear(), false;
  return address != nullptr && address == *reinterpret_cast<void* const*>(tensor + 1);
}

}  // namespace subgrad
