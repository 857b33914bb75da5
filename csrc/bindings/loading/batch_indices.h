// The indices of a batch, as samplers yield them.
#pragma once

#include <pybind11/pybind11.h>

#include <cstdint>

namespace subgrad {

namespace py = pybind11;

// Copies any one-dimensional array or sequence of `count` integers of [0, rows) to `out`, and then
// checks the copy: the caller may change his own in another thread. Raises TypeError, ValueError,
// or IndexError naming the first that is outside.
void copy_batch_indices(const py::object& given, std::int64_t count, std::int64_t rows,
                        std::int64_t* out);

}  // namespace subgrad
