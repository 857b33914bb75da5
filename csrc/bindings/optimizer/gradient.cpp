#include "bindings/optimizer/gradient.h"

#include <pybind11/gil_safe_call_once.h>

namespace subgrad {
namespace {

PyObject* parameter_type() {
  PYBIND11_CONSTINIT static py::gil_safe_call_once_and_store<py::object> type;
  return type
      .call_once_and_store_result(
          [] { return py::object(py::module_::import("torch.nn").attr("Parameter")); })
      .get_stored()
      .ptr();
}

}  // namespace

PyObject* tensor_type() {
  PYBIND11_CONSTINIT static py::gil_safe_call_once_and_store<py::object> type;
  return type
      .call_once_and_store_result(
          [] { return py::object(py::module_::import("torch").attr("Tensor")); })
      .get_stored()
      .ptr();
}

PyGetSetDef* gradient_getter(PyTypeObject* type) {
  if (type->tp_getattro != PyObject_GenericGetAttr) return nullptr;
  const auto grad = py::getattr(reinterpret_cast<PyObject*>(type), "grad", py::none());
  if (Py_TYPE(grad.ptr()) != &PyGetSetDescr_Type) return nullptr;
  return reinterpret_cast<PyGetSetDescrObject*>(grad.ptr())->d_getset;
}

PyGetSetDef* gradient_setter(PyTypeObject* type) {
  auto* const object = reinterpret_cast<PyObject*>(type);
  if (object != parameter_type() && object != tensor_type()) return nullptr;
  return type->tp_setattro == PyObject_GenericSetAttr ? gradient_getter(type) : nullptr;
}

}  // namespace subgrad
