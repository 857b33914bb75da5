// One dense step over any number of tensors: the work list and the loop that shares it among
// threads.
#pragma once

#include <cstdint>
#include <vector>

#include "cpu/kernel_table.h"
#include "cpu/support/layout.h"

namespace subgrad {

// One tensor's part of a step.
struct DenseSegment {
  void* param;
  const void* grad;      // null: the tensor takes no part
  void* momentum;        // null: the rule has none
  std::int64_t n;        // elements
  const Layout* layout;  // null: all operands are one contiguous run
  int params_row;        // into the hyper-parameter table
  int types_row;         // into kDenseTypes
  bool first;            // the momentum buffer holds nothing yet
};

// Runs a step: every segment with its row of `params`. One parallel region over all elements, or
// none where the work is too small to share. Touches only memory named by the segments; cannot
// fail. Elementwise, so the split among threads cannot change a bit.
void run_dense(const std::vector<DenseSegment>& segments, const std::vector<SgdParams>& params);

}  // namespace subgrad
