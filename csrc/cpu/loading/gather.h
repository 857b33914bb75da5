// Rows of an array, copied in the order of a list of indices: what makes a batch.
#pragma once

#include <cstdint>

namespace subgrad {

// An array whose rows are runs of bytes, a fixed distance (of either sign, or zero) apart.
struct RowSource {
  const char* data;
  std::int64_t stride;     // bytes from one row to the next
  std::int64_t row_bytes;  // may be 0
};

// Copies source row indices[i] to row i of `out`, whose rows are contiguous, for all i < n. The
// indices have been checked.
void gather_rows(const RowSource& source, char* out, const std::int64_t* indices, std::int64_t n);

// The position of the first index outside [0, rows), or -1.
std::int64_t first_outside(const std::int64_t* indices, std::int64_t n, std::int64_t rows);

}  // namespace subgrad
