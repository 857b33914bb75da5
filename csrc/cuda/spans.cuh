// Lists of arrays to select from, as kernels take them.
#pragma once

#include <algorithm>

#include "cuda/lists.cuh"
#include "cuda/select.cuh"

namespace subgrad {

struct SpanList {
  static constexpr int kSpans = 60;

  SelectScratch scratch;
  std::int32_t count;
  std::int32_t chunk;  // tiles
  SpanItem spans[kSpans];
  std::int32_t first_block[kSpans];
};
static_assert(sizeof(SpanList) <= 4096, "the limit of parameters");

// A block's part of a list: elements [begin, begin + n) of a span.
struct Part {
  const SpanItem& span;
  int tile;  // the first of them
  std::int64_t begin;
  int n;

  __device__ explicit Part(const SpanList& list) : Part(list, segment_of(list, int(blockIdx.x))) {}

  template <class T>
  __device__ const T* data() const {
    return static_cast<const T*>(span.data) + begin;
  }

 private:
  __device__ Part(const SpanList& list, int i)
      : span(list.spans[i]),
        tile(span.first_tile + (int(blockIdx.x) - list.first_block[i]) * list.chunk),
        begin(std::int64_t{tile - span.first_tile} * kTile),
        n(static_cast<int>(min(std::int64_t{list.chunk} * kTile, span.n - begin))) {}
};

// Calls run(list, blocks) for the spans that are wanted, in lists as long as a launch takes. A
// block takes one tile, or several where there are more than so many blocks of them.
template <class Wanted, class Run>
cudaError_t each_list(const Selecting& selecting, std::int64_t most_blocks, const Wanted& wanted,
                      const Run& run) {
  SpanList list;
  list.scratch = selecting.scratch();
  std::int64_t tiles = 0;
  for (const SpanItem& span : selecting.spans()) tiles += wanted(span) ? tiles_of(span.n) : 0;
  constexpr std::int64_t kMostTiles = 1 << 16;  // of which bins of 32 bits can count the elements
  list.chunk = static_cast<int>(std::clamp<std::int64_t>(tiles / most_blocks, 1, kMostTiles));
  list.count = 0;
  std::int64_t blocks = 0;
  for (const SpanItem& span : selecting.spans()) {
    if (span.n == 0 || !wanted(span)) continue;
    if (list.count == SpanList::kSpans) {
      SGF_CUDA_TRY(run(list, static_cast<int>(blocks)));
      list.count = 0;
      blocks = 0;
    }
    list.first_block[list.count] = static_cast<int>(blocks);
    list.spans[list.count++] = span;
    blocks += (tiles_of(span.n) + list.chunk - 1) / list.chunk;
  }
  return list.count > 0 ? run(list, static_cast<int>(blocks)) : cudaSuccess;
}
inline constexpr std::int64_t kTileEach = std::int64_t{1} << 62;

// Calls body(T{}, dtype) with each element type there is.
template <class Body>
cudaError_t each_type(const Body& body) {
  SGF_CUDA_TRY(body(float{}, DType::f32));
  SGF_CUDA_TRY(body(double{}, DType::f64));
  SGF_CUDA_TRY(body(bf16{}, DType::bf16));
  return body(f16{}, DType::f16);
}

}  // namespace subgrad
