// The `grad` of torch's parameters, reached without the look-up that an attribute costs.
#pragma once

#include <pybind11/pybind11.h>

namespace subgrad {

namespace py = pybind11;

// torch.Tensor. Not a C++ static by itself: to import takes the GIL's turns, and a thread that
// waits for the static with the GIL in hand would wait for ever.
PyObject* tensor_type();

// The C function behind a tensor type's `grad`, or null where the type is not plain: its gradient
// is then asked for like any attribute.
PyGetSetDef* gradient_getter(PyTypeObject* type);

// The C function that sets it, of torch.Tensor and torch.nn.Parameter themselves; null: any other
// type, whose attribute may do more than torch's.
PyGetSetDef* gradient_setter(PyTypeObject* type);

}  // namespace subgrad
