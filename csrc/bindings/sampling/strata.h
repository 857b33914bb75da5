// Draws within classes, and batches by class.
#pragma once

#include <pybind11/pybind11.h>

namespace subgrad {

void register_strata(pybind11::module_& m);

}  // namespace subgrad
