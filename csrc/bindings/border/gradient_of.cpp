#include "bindings/border/gradient_of.h"

#include <pybind11/gil_safe_call_once.h>

#include "bindings/border/arrays.h"

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

PyGetSetDef* gradient_getter(PyTypeObject* type) { return attribute_behind(type, "grad"); }

bool stands_for_another(py::handle tensor) {
  const py::module_ torch = py::module_::import("torch");
  return py::bool_(tensor.attr("_is_zerotensor")()) ||
         py::bool_(torch.attr("_is_functional_tensor")(tensor)) ||
         py::bool_(torch.attr("_C").attr("_functorch").attr("is_functorch_wrapped_tensor")(tensor));
}

PyGetSetDef* gradient_setter(PyTypeObject* type) {
  auto* const object = reinterpret_cast<PyObject*>(type);
  if (object != parameter_type() && object != tensor_type()) return nullptr;
  return type->tp_setattro == PyObject_GenericSetAttr ? gradient_getter(type) : nullptr;
}

PyObject* GradientOf::operator()(PyObject* tensor) {
  if (Py_TYPE(tensor) != type_) {
    type_ = Py_TYPE(tensor);
    grad_ = gradient_getter(type_);
  }
  return grad_ != nullptr ? grad_->get(tensor, grad_->closure)
                          : PyObject_GetAttrString(tensor, "grad");
}

}  // namespace subgrad
