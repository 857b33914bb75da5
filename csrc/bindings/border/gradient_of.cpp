#include "bindings/border/gradient_of.h"

#include <pybind11/gil_safe_call_once.h>

namespace subgrad {
namespace {

// The C function behind a type's `grad`, or null where the type is not plain: its gradient is then
// asked for like any attribute.
PyGetSetDef* grad_function(PyTypeObject* type) {
  if (type->tp_getattro != PyObject_GenericGetAttr) return nullptr;
  const auto grad = py::getattr(reinterpret_cast<PyObject*>(type), "grad", py::none());
  if (Py_TYPE(grad.ptr()) != &PyGetSetDescr_Type) return nullptr;
  return reinterpret_cast<PyGetSetDescrObject*>(grad.ptr())->d_getset;
}

}  // namespace

PyObject* GradientOf::operator()(PyObject* tensor) {
  if (Py_TYPE(tensor) != type_) {
    type_ = Py_TYPE(tensor);
    grad_ = grad_function(type_);
  }
  return grad_ != nullptr ? grad_->get(tensor, grad_->closure)
                          : PyObject_GetAttrString(tensor, "grad");
}

// Not a C++ static by itself: to import takes the GIL's turns, and a thread that waits for the
// static with the GIL in hand would wait for ever.
bool is_plain_tensor(PyObject* object) {
  PYBIND11_CONSTINIT static py::gil_safe_call_once_and_store<py::object> tensor;
  const py::object& type = tensor
                               .call_once_and_store_result([] {
                                 return py::object(py::module_::import("torch").attr("Tensor"));
                               })
                               .get_stored();
  return reinterpret_cast<PyObject*>(Py_TYPE(object)) == type.ptr();
}

}  // namespace subgrad
