// The SGD step on the rows of parameters that a row-sparse gradient names.
#pragma once

#include <cstdint>
#include <vector>

#include "core/sgd_params.h"
#include "core/types.h"

namespace subgrad {

// One parameter's part of a step. Rows are runs of `length` elements, a fixed distance in bytes
// apart. `values` has one gradient row for each of the n row numbers, which lie inside the
// parameter.
struct RowSegment {
  char* param;
  std::int64_t param_stride;
  char* momentum;  // null: the rule has none
  std::int64_t momentum_stride;
  const char* values;
  std::int64_t value_stride;
  const std::int64_t* rows;
  std::int64_t n;
  std::int64_t length;
  DType param_type, value_type, momentum_type;  // a combination of kDenseTypes
};

// Steps every row that is named, once, with the sum of its gradients, added in the order of their
// positions in the type that the parameter is computed in. A momentum row that is all zeros holds
// nothing: it is set, as in a first step. Rows that are not named are neither read nor written, and
// nothing grows with their number. Scratch: 32 bytes for each row number.
//
// The same bits for any number of threads.
void run_rows(const std::vector<RowSegment>& segments, const SgdParams& params);

// Sets `count` rows of `row_bytes` bytes, `stride` bytes apart, to zeros.
void clear_rows(char* rows, std::int64_t stride, std::int64_t count, std::int64_t row_bytes);

}  // namespace subgrad
