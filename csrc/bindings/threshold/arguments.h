// What the doors of the thresholded step take beside arrays, and how arrays and arguments are put
// together.
#pragma once

#include <vector>

#include "bindings/threshold/plan.h"
#include "cpu/threshold/threshold.h"

namespace subgrad {

// What is the same for all tensors of a group, and what tells one tensor from the others.
struct Placement {
  std::size_t row, scope;
  bool first, fresh;
};

// Throws unless there is a placement for each tensor, and the tensors of a scope are computed in
// one type.
void check_scopes(const ThresholdPlan& plan, const std::vector<Placement>& placements,
                  std::size_t scopes);

// The tensors as the kernels take them. Throws for a momentum buffer that is missing, and where
// indices of that size are too small.
std::vector<ThresholdSegment> segments_of(const ThresholdPlan& plan,
                                          const std::vector<ThresholdParams>& rows,
                                          const std::vector<Placement>& placements,
                                          int index_bytes);

}  // namespace subgrad
