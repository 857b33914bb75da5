// What tests and tools read from the compiled module, so that no list is written twice.
#pragma once

#include <pybind11/pybind11.h>

namespace subgrad {

namespace py = pybind11;

void register_tables(py::module_& m);

}  // namespace subgrad
