// The tensors of a dense step as its kernels take them, with what a step with stages needs of each.
#pragma once

#include <algorithm>

#include "cuda/clip.cuh"
#include "cuda/launch.cuh"
#include "rules/table.h"

namespace subgrad {

inline constexpr int kDenseThreads = 256;
inline constexpr int kDenseBlocksPerMultiprocessor = 4;
// Stages of f64 take more registers than four blocks leave.
template <class C, bool staged>
constexpr int kDenseBlocks = staged && sizeof(C) == 8 ? 3 : kDenseBlocksPerMultiprocessor;

struct DenseSegment {
  void* param;
  const void* grad;
  void* momentum;
  std::int64_t n;
  std::int16_t group, rule;
  bool reads_momentum, writes_momentum;
  bool packed;  // every operand is aligned to its packs
};

// Of a step with stages.
struct StagedSegment : DenseSegment {
  std::int16_t first_rule;       // where the momentum holds nothing yet
  bool first, first_average;     // whether it does not, and the average; unless there are counts
  bool wide;                     // as in rules/norm.h
  std::int32_t sum;              // of its scope, in the sums
  void* average;                 // null: none is kept
  const CudaStepCounts* counts;  // null: there are none
};

// What a list knows of all its tensors.
struct NoStages {};
struct WithStages {
  CudaClip clip;
};

// Kernel parameters hold 4 KB, or 32 KB since CUDA 12.1 on the architectures there are since then.
// A launch costs the host the copying of all of them, used or not; so there is a small list for
// those many steps that have few tensors, and a large one that takes any usual model in one launch.
template <int kBytes, bool staged>
struct DenseList : std::conditional_t<staged, WithStages, NoStages> {
  static constexpr bool kStaged = staged;
  using Segment = std::conditional_t<staged, StagedSegment, DenseSegment>;
  static constexpr int kGroups = kBytes / 512;
  static constexpr int kFixed =
      16 + int{sizeof(DenseGroup)} * kGroups + (staged ? int{sizeof(WithStages)} : 0);
  static constexpr int kSegments = (kBytes - kFixed) / int{sizeof(Segment) + sizeof(std::int32_t)};

  std::int32_t count;
  std::int32_t chunk;  // elements, a multiple of the tile
  DenseGroup groups[kGroups];
  Segment segments[kSegments];
  std::int32_t first_block[kSegments];  // of each segment; apart, as blocks search in it
};
template <bool staged>
using SmallDenseList = DenseList<4096, staged>;
#if CUDART_VERSION >= 12010
template <bool staged>
using LargeDenseList = DenseList<32764, staged>;
#else
template <bool staged>
using LargeDenseList = SmallDenseList<staged>;
#endif
static_assert(sizeof(SmallDenseList<false>) <= 4096 && sizeof(LargeDenseList<false>) <= 32764 &&
                  sizeof(SmallDenseList<true>) <= 4096 && sizeof(LargeDenseList<true>) <= 32764,
              "the limits of parameters");

// As many elements as fill 16 bytes of the widest operand.
constexpr int lanes_of(const DenseTypes& t) {
  const std::size_t widest = std::max({size_of(t.param), size_of(t.grad), size_of(t.momentum)});
  return static_cast<int>(16 / widest);
}
// Packs per thread and turn, all loaded before any is stored. 8 lanes of 16-bit numbers, once they
// are widened, and 2 of float64 leave registers for no more than one.
constexpr int packs_of(int lanes) { return lanes == 8 || lanes == 2 ? 1 : 2; }
constexpr int tile_of(const DenseTypes& t) {
  return kDenseThreads * packs_of(lanes_of(t)) * lanes_of(t);
}

// Steps tensors without stages, or with them: dense.cu and dense_staged.cu.
struct DenseCall {
  const DenseTensor* tensors;
  std::size_t count;
  const DenseGroup* groups;
  const CudaDenseOptions* options;  // null: none
  int multiprocessors;
  cudaStream_t stream;
};
cudaError_t step_plain(const DenseCall& call);
cudaError_t step_staged(const DenseCall& call);

}  // namespace subgrad
