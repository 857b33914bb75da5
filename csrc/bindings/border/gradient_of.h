// The gradients of torch's parameters, without the look-up that an attribute costs.
#pragma once

#include <pybind11/pybind11.h>

namespace subgrad {

namespace py = pybind11;

// `tensor.grad`, where most tensors have the type of the one before.
class GradientOf {
 public:
  // A new reference, or null and Python's error. Runs code of Python's where a type has its own.
  PyObject* operator()(PyObject* tensor);

 private:
  PyTypeObject* type_ = nullptr;  // of the last tensor
  PyGetSetDef* grad_ = nullptr;   // its C function; null: the slow way
};

// Whether it is a torch.Tensor, and of no other class.
bool is_plain_tensor(PyObject* object);

}  // namespace subgrad
