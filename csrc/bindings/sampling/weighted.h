// Draws in proportion to weights.
#pragma once

#include <pybind11/pybind11.h>

namespace subgrad {

void register_weights(pybind11::module_& m);

}  // namespace subgrad
