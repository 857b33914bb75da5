// One pass over a sampler's batches.
#pragma once

#include <pybind11/pybind11.h>

namespace subgrad {

namespace py = pybind11;

void register_cursor(py::module_& m);

}  // namespace subgrad
