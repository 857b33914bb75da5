// The indices of a batch, as samplers yield them.
#pragma once

#include <cstdint>

#include "bindings/sampling/keys.h"

namespace subgrad {

// Any one-dimensional array or sequence of `count` integers of [0, rows), as int64. Raises
// TypeError, or IndexError naming the first that is outside.
IndexArray batch_indices(const py::object& given, std::int64_t count, std::int64_t rows);

}  // namespace subgrad
