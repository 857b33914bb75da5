// A tensor's part of a thresholded step, chunk by chunk. A chunk is small enough to stay in the
// first-level cache while one kernel after the other goes over it: the step costs the memory
// traffic of one pass, whatever it is composed of.
#pragma once

#include <cstdint>

#include "cpu/select/select.h"
#include "cpu/support/large_array.h"
#include "cpu/threshold/threshold.h"

namespace subgrad {

inline constexpr std::int64_t kThresholdChunk = 1024;  // elements: 4 KiB of each f32 operand

inline constexpr std::int64_t kThresholdLine = 16;  // elements: a cache line of f32

// Room for a packed chunk of any operand.
struct ThresholdBuffers {
  static constexpr std::int64_t kBytes = kThresholdChunk * 8;
  alignas(64) char param[kBytes], grad[kBytes], momentum[kBytes], residual[kBytes], staged[kBytes];
};

class ChunkedTensor {
 public:
  ChunkedTensor(const ThresholdTensor& tensor, const ThresholdGroup& group,
                const GradientStage& stage);

  const ThresholdTensor& tensor() const { return s_; }
  DType type() const { return type_; }

  // What an element costs in memory traffic.
  std::int64_t element_bytes() const;

  // Makes room for a residual that has to last from one pass to the next as one run, where it has
  // no such memory of its own; and where it is then.
  void reserve_residual();
  Span residual() const { return {held(0), type_, s_.n}; }
  char* held(std::int64_t begin) const;  // null where a residual lives for one chunk only

  // The residual takes up the direction of this step; returns where it is.
  char* accumulate(std::int64_t begin, std::int64_t n, ThresholdBuffers& buffers) const;

  // What it would be, for at most a chunk's elements that are gathered from all over the tensor:
  // nothing but `to` is written.
  struct Line {
    std::int64_t begin, n;  // n <= kThresholdLine
  };
  void preview(const Line* lines, std::int64_t count, void* to) const;

  // Moves the parameter by what is kept of [begin, begin + n), whose residual is at `v`; returns
  // how much that was.
  std::int64_t release(std::int64_t begin, std::int64_t n, std::uint64_t cut, char* v,
                       ThresholdBuffers& buffers, const KeptLanes& to) const;

 private:
  bool uses_momentum() const { return direction_.momentum != 0.0; }
  // A chunk of the gradient as the direction takes it: past its stage, if that changes anything.
  const char* staged(const char* grad, std::int64_t n, ThresholdBuffers& buffers) const;

  ThresholdTensor s_;
  DType param_type_, grad_type_, type_;  // type_: the arithmetic's, the momentum's, the residual's
  SgdParams direction_, application_;
  GradientStage stage_;
  ClipKernel clip_ = nullptr;  // null: gradients are taken as they come
  AccumulateKernel accumulate_;
  ReleaseKernel release_ = nullptr;  // null: what is kept is taken out and stepped with
  TakeKernel take_ = nullptr;
  DenseKernel step_ = nullptr;
  bool reads_param_;  // whether the direction depends on the parameter
  bool masks_momentum_ = false;
  LargeArray<char> scratch_;
};

}  // namespace subgrad
