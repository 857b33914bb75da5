// One thresholded step over any number of tensors: the direction of each goes to its residual, and
// what is large enough there moves the parameter.
#pragma once

#include <cstdint>
#include <vector>

#include "cpu/kernel_table.h"
#include "cpu/support/layout.h"
#include "cpu/threshold/growing_bytes.h"

namespace subgrad {

// Hyper-parameters of a group of tensors.
struct ThresholdParams {
  SgdParams sgd;
  bool momentum_correction = true;  // false: what is kept becomes the momentum's gradient
  bool momentum_masking = true;
};

// How the cut between kept and held is found, for all tensors of one scope together.
struct Selector {
  enum class Kind { absolute, exact, sampled };
  Kind kind = Kind::absolute;
  double threshold = 0.0;  // absolute: magnitudes of at least this are kept
  std::int64_t k = 0;      // exact: so many are kept; sampled: about so many
};

// One array of a tensor. A null layout means one contiguous run; otherwise elements are counted in
// the layout's order, which is row-major. All strides of the layout are this array's.
struct ThresholdOperand {
  void* data = nullptr;
  const Layout* layout = nullptr;
};

struct ThresholdSegment {
  ThresholdOperand param, grad;
  ThresholdOperand momentum;  // null: the rule has none
  ThresholdOperand residual;  // null: what is not kept is dropped
  std::int64_t n;             // elements
  std::size_t row;            // into the hyper-parameters
  std::size_t scope;          // into the selectors
  int types_row;              // into kDenseTypes; momentum and residual have the arithmetic's type
  bool first;                 // the momentum holds nothing yet
  bool fresh;                 // the residual holds nothing yet
};

struct ThresholdOptions {
  int index_bytes = 0;   // 4 or 8: report which elements were kept, and what was applied
  bool measure = false;  // report sums of squares
};

// What was kept of a part of a tensor, ascending in the order of the elements: indices of the size
// asked for, and as many values of the arithmetic's type.
struct KeptRun {
  std::size_t segment = 0;
  std::int64_t count = 0;
  GrowingBytes indices, values;
};

struct ThresholdResult {
  std::vector<double> thresholds;  // by scope: the least magnitude that is kept
  std::vector<std::int64_t> kept;  // by segment
  std::vector<Energy> energies;    // by segment, if measured: of what was kept and of the rest
  std::vector<KeptRun> runs;       // by segment and position, if indices were asked for
};

// Runs a step. The segments of a scope are computed in one type, f32 or f64. Threshold selectors
// take one pass over memory, `exact` two and a look at the residual in between. Throws
// std::bad_alloc before anything is written, or after everything is if only the report did not fit.
ThresholdResult run_threshold(const std::vector<ThresholdSegment>& segments,
                              const std::vector<ThresholdParams>& params,
                              const std::vector<Selector>& selectors,
                              const ThresholdOptions& options);

// The multiplicative controller of a reused threshold: the next step's, given how many of `target`
// were kept; NaN if they were so far off that it should be estimated anew.
double next_threshold(double threshold, std::int64_t kept, std::int64_t target);

}  // namespace subgrad
