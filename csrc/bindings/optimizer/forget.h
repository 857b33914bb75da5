// What zero_grad() of an optimizer does: gradients are let go, or become zeros. It walks over the
// param_groups as they are, so that there is nothing to be out of date.
#pragma once

#include <pybind11/pybind11.h>

#include "bindings/border/turns.h"

namespace subgrad {

namespace py = pybind11;

// Makes `grad` of every parameter None, in a turn of the optimizer's.
void forget_gradients(const py::object& param_groups, Turns& turns);

// Writes zeros over the gradients that are dense CPU tensors and nothing more. Returns the others,
// which it leaves to torch.
py::list zero_gradients(const py::object& param_groups);

}  // namespace subgrad
