// One thresholded step over any number of tensors: the direction of each goes to its residual, and
// what is large enough there moves the parameter.
#pragma once

#include <cstdint>
#include <vector>

#include "core/work.h"
#include "cpu/clip/norm.h"
#include "cpu/kernel_table.h"
#include "cpu/select/peers.h"
#include "cpu/threshold/growing_bytes.h"

namespace subgrad {

// What was kept of a part of a tensor, ascending in the order of the elements: indices of the size
// asked for, and as many values of the arithmetic's type.
struct KeptRun {
  std::size_t tensor = 0;
  std::int64_t count = 0;
  GrowingBytes indices, values;
};

struct ThresholdResult {
  std::vector<double> thresholds;  // by scope: the least magnitude that is kept
  std::vector<std::int64_t> kept;  // by tensor
  std::vector<Energy> energies;    // by tensor, if measured: of what was kept and of the rest
  std::vector<KeptRun> runs;       // by tensor and position, if indices were asked for
};

// Runs a step. The tensors of a scope are computed in one type, f32 or f64. Threshold selectors
// take one pass over memory, `exact` two and a look at the residual in between. Throws
// std::bad_alloc before anything is written, or after everything is if only the report did not fit.
// `stages`: of the tensors' gradients; empty where none changes anything. `peers`: by scope, where
// its elements lie in several processes; null or beyond the end where all are here. Such a scope is
// `absolute` or `exact`. Where adding up throws, residuals and momentum have taken up the direction
// and nothing has been applied.
ThresholdResult run_threshold(const std::vector<ThresholdTensor>& tensors,
                              const std::vector<ThresholdGroup>& groups,
                              const std::vector<Selector>& selectors,
                              const ThresholdOptions& options, const Stages& stages,
                              const std::vector<const Peers*>& peers = {});

// The multiplicative controller of a reused threshold: the next step's, given how many of `target`
// were kept; NaN if they were so far off that it should be estimated anew.
double next_threshold(double threshold, std::int64_t kept, std::int64_t target);

}  // namespace subgrad
