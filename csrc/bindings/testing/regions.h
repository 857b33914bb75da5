// The history of a parallel loop, which tests tell what its passages took.
#pragma once

#include <pybind11/pybind11.h>

namespace subgrad {

namespace py = pybind11;

void register_regions(py::module_& m);

}  // namespace subgrad
