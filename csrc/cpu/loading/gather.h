// Rows of an array, copied in the order of a list of indices: what makes a batch.
#pragma once

#include <cstdint>

#include "core/work.h"

namespace subgrad {

// Copies source row indices[i] to row i of `out`, whose rows are contiguous, for all i < n. The
// indices have been checked.
void gather_rows(const RowSource& source, char* out, const std::int64_t* indices, std::int64_t n);

// The position of the first index outside [0, rows), or -1.
std::int64_t first_outside(const std::int64_t* indices, std::int64_t n, std::int64_t rows);

}  // namespace subgrad
