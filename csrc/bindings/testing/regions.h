// Histories of parallel loops and of memory in use, which tests tell what passages and steps took.
#pragma once

#include <pybind11/pybind11.h>

namespace subgrad {

namespace py = pybind11;

void register_regions(py::module_& m);

}  // namespace subgrad
