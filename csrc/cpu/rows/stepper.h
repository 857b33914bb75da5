// The rows of a segment once duplicates are known: their gradients added up, measured and stepped
// with.
#pragma once

#include <algorithm>
#include <cstdint>

#include "cpu/kernel_table.h"
#include "cpu/rows/duplicates.h"
#include "cpu/rows/history.h"
#include "cpu/rows/rows.h"

namespace subgrad {

// What a step reads and writes of a row.
inline std::int64_t touched_bytes(const RowSegment& s) {
  return bytes_of(s.param_type, s.length) +
         (s.momentum != nullptr ? bytes_of(s.momentum_type, s.length) : 0);
}

// A segment with the kernels that step one of its rows. A row is told by the position that is the
// first to name it.
class RowStepper {
 public:
  // Gradients of one row are added up in blocks of this many elements, which stay in the first
  // cache.
  static constexpr std::int64_t kSumElements = 1024;

  RowStepper(const RowSegment& segment, const SgdParams& params, const Duplicates& duplicates);

  // What the sum of a row's gradients goes through before the step.
  void set_stage(const GradientStage& stage) { stage_ = stage; }

  // All rows of a linked bucket.
  void step(std::int64_t bucket) const;

  // One row, shared among threads. `sum` has room for a row.
  void step_shared(std::int64_t position, void* sum) const;

  std::int64_t blocks() const { return (s_.length + kSumElements - 1) / kSumElements; }

  // What visit(data, n, type) gives of a block of the sum of a row's gradients.
  template <class Visit>
  double of_block(std::int64_t position, std::int64_t block, const Visit& visit) const {
    const std::int64_t begin = block * kSumElements;
    const std::int64_t n = std::min(kSumElements, s_.length - begin);
    if (alone(position)) {
      return visit(values_at(position) + bytes_of(s_.value_type, begin), n, s_.value_type);
    }
    Sum sum;
    add_up(position, begin, n, sum.bytes, [] {});
    return visit(sum.bytes, n, compute_dtype(s_.param_type));
  }

 private:
  struct Row {
    char* param;
    char* momentum;
    bool first;
  };
  struct Sum {
    alignas(64) char bytes[kSumElements * sizeof(double)];
  };
  class Scout;

  bool alone(std::int64_t position) const { return duplicates_.next(position) < 0; }
  const char* values_at(std::int64_t position) const {
    return s_.values + position * s_.value_stride;
  }
  Row row_at(std::int64_t position) const;
  template <class Each>
  void add_up(std::int64_t position, std::int64_t begin, std::int64_t n, char* sum,
              const Each& each) const;
  void step_row(std::int64_t position, Scout& scout) const;

  const RowSegment& s_;
  const SgdParams& params_;
  const Duplicates& duplicates_;
  GradientStage stage_;
  int value_row_, sum_row_, add_row_;
  DenseKernel add_;
  DenseKernel step_[2], step_sum_[2];  // [1]: the momentum row holds nothing
  ClipKernel clip_value_, clip_sum_;   // to the type that the parameter is computed in
};

// The step without momentum or decay and with this rate is w = fma(1, g, w): an addition.
inline constexpr SgdParams kAddition = [] {
  SgdParams p;
  p.lr = -1.0;
  return p;
}();

// -0.0 is what adding changes nothing of, the signs of zeros included.
inline void set_to_nothing(void* sum, DType type, std::int64_t n) {
  if (type == DType::f64) {
    std::fill_n(static_cast<double*>(sum), n, -0.0);
  } else {
    std::fill_n(static_cast<float*>(sum), n, -0.0f);
  }
}

// Calls each() at each gradient of the row.
template <class Each>
void RowStepper::add_up(std::int64_t position, std::int64_t begin, std::int64_t n, char* sum,
                        const Each& each) const {
  set_to_nothing(sum, compute_dtype(s_.param_type), n);
  for (std::int64_t i = position; i >= 0; i = duplicates_.next(i)) {
    each();
    add_(sum, values_at(i) + bytes_of(s_.value_type, begin), nullptr, n, kAddition, 1.0);
  }
}

}  // namespace subgrad
