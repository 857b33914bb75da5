// The dense step with stages that no kernel of a rule has: gradients that are limited on their way,
// and averages of the weights.
#pragma once

#include <cstdint>
#include <vector>

#include "core/work.h"
#include "cpu/kernel_table.h"

namespace subgrad {

// What is needed to step a part of a tensor by chunks that stay in the first-level cache: the
// gradient is taken through its stage to a buffer where it has a limit, the rule's kernel steps,
// the average moves towards the new weights (16-bit ones before they are rounded).
struct StagedTensor {
  const DenseTensor& tensor;
  const SgdParams& params;
  const DenseKernel* kernels;  // of the rule, by element types
  GradientStage stage;

  // The elements [begin, end), counted in the layout's order. Upwards: the processor fetches ahead
  // from one page to the next, not to the one before.
  void step(std::int64_t begin, std::int64_t end) const;
};

}  // namespace subgrad
