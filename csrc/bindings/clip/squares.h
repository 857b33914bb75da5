// Sums of squares as arrays of Python's, on their way between processes.
#pragma once

#include <pybind11/numpy.h>

#include <cstddef>

#include "cpu/clip/norm.h"

namespace subgrad {

namespace py = pybind11;

// An array (sums, 2) of values and exponents.
py::array_t<double> as_array(const SquareSums& sums);

// From an array (processes, count, 2): for each of them what the processes have found together,
// added in their order. Throws ValueError for an array of another shape.
SquareSums read_squares(const py::object& squares, std::size_t count);

}  // namespace subgrad
