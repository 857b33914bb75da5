// The gradients of a call as the kernels of clipping take them, and how a call cuts them into
// lists.
#pragma once

#include <algorithm>

#include "cuda/blocks.cuh"
#include "cuda/carver.cuh"
#include "cuda/clip.cuh"
#include "cuda/lists.cuh"

namespace subgrad {

inline constexpr int kWarps = kBlockThreads / 32;

// In device memory.
struct ClipScratch {
  SquareSum* sums;
  double* blocks;  // what is found in each, of all gradients
  int* again;      // whether squares of f64 are to be added anew
};

struct ClipItem {
  void* data;
  std::int64_t n;
  std::int64_t first;  // of its blocks
  std::int32_t sum;    // of its own, in the sums
  bool f64;
};

// As in dense.cu: launches of few gradients have few parameters.
template <int kBytes>
struct ClipList {
  static constexpr int kSegments =
      (kBytes - int{sizeof(ClipScratch)} - 8) / int{sizeof(ClipItem) + sizeof(std::int32_t)};

  ClipScratch scratch;
  std::int32_t count;
  ClipItem segments[kSegments];
  std::int32_t first_block[kSegments];
};
using SmallClipList = ClipList<4096>;
#if CUDART_VERSION >= 12010
using LargeClipList = ClipList<32700>;
#else
using LargeClipList = SmallClipList;
#endif
static_assert(sizeof(SmallClipList) <= 4096 && sizeof(LargeClipList) <= 32700,
              "the limits of parameters");

// The gradients of a call, in lists as long as a launch takes.
class ClipCall {
 public:
  ClipCall(const Gradient* gradients, std::size_t count, int groups, void* scratch)
      : gradients_(gradients), count_(static_cast<int>(count)), groups_(groups) {
    std::int64_t blocks = 0;
    for (int i = 0; i < count_; ++i) blocks += norm_blocks(gradients[i].n);
    Carver carver(scratch);
    scratch_.sums = carver.take<SquareSum>(sum_of_gradient(groups, count_));
    scratch_.blocks = carver.take<double>(blocks);
    scratch_.again = carver.take<int>(1);
    bytes_ = carver.bytes();
  }

  std::size_t bytes() const { return bytes_; }
  const ClipScratch& scratch() const { return scratch_; }
  int count() const { return count_; }
  int groups() const { return groups_; }
  bool any(DType dtype) const {
    return std::any_of(gradients_, gradients_ + count_,
                       [&](const Gradient& g) { return g.dtype == dtype; });
  }

  // run(list, blocks) for the gradients that are wanted, where a block of threads works on so many
  // elements of one of them.
  template <class WantedOf, class Run>
  cudaError_t each_list(const WantedOf& is_wanted, std::int64_t tile, const Run& run) const {
    const bool few = count_ <= SmallClipList::kSegments;
    return few ? lists<SmallClipList>(is_wanted, tile, run)
               : lists<LargeClipList>(is_wanted, tile, run);
  }

 private:
  template <class List, class WantedOf, class Run>
  cudaError_t lists(const WantedOf& is_wanted, std::int64_t tile, const Run& run) const {
    List list;
    list.scratch = scratch_;
    list.count = 0;
    std::int64_t first = 0, blocks = 0;
    for (int i = 0; i < count_; ++i) {
      const Gradient& g = gradients_[i];
      if (is_wanted(g)) {
        if (list.count == List::kSegments) {
          SGF_CUDA_TRY(run(list, static_cast<int>(blocks)));
          list.count = 0;
          blocks = 0;
        }
        list.first_block[list.count] = static_cast<int>(blocks);
        list.segments[list.count++] = {g.data, g.n, first, sum_of_gradient(groups_, i),
                                       g.dtype == DType::f64};
        if (tile > 0) blocks += (g.n + tile - 1) / tile;
      }
      first += norm_blocks(g.n);
    }
    return list.count > 0 ? run(list, static_cast<int>(blocks)) : cudaSuccess;
  }

  const Gradient* gradients_;
  int count_, groups_;
  ClipScratch scratch_ = {};
  std::size_t bytes_ = 0;
};

}  // namespace subgrad
