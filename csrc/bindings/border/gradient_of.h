// The gradients of torch's parameters, without the look-up that an attribute costs.
#pragma once

#include <pybind11/pybind11.h>

namespace subgrad {

namespace py = pybind11;

// torch.Tensor. Not a C++ static by itself: to import takes the GIL's turns, and a thread that
// waits for the static with the GIL in hand would wait for ever.
PyObject* tensor_type();

// Whether it is a torch.Tensor, and of no other class.
inline bool is_plain_tensor(PyObject* object) {
  return reinterpret_cast<PyObject*>(Py_TYPE(object)) == tensor_type();
}

// Whether a tensor of torch.Tensor itself has no memory because it stands for others: zeros that
// are not there, or what a transform of functorch's, or torch.func.functionalize, sees.
bool stands_for_another(py::handle tensor);

// The C function behind a tensor type's `grad`, or null where the type is not plain: its gradient
// is then asked for like any attribute.
PyGetSetDef* gradient_getter(PyTypeObject* type);

// The C function that sets it, of torch.Tensor and torch.nn.Parameter themselves; null: any other
// type, whose attribute may do more than torch's.
PyGetSetDef* gradient_setter(PyTypeObject* type);

// `tensor.grad`, where most tensors have the type of the one before.
class GradientOf {
 public:
  // A new reference, or null and Python's error. Runs code of Python's where a type has its own.
  PyObject* operator()(PyObject* tensor);

 private:
  PyTypeObject* type_ = nullptr;  // of the last tensor
  PyGetSetDef* grad_ = nullptr;   // its C function; null: the slow way
};

}  // namespace subgrad
