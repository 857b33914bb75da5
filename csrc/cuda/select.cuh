// Selection by magnitude in parts, on arrays cut into tiles: for select.cu's own launchers and for
// the thresholded step, which selects from residuals.
//
// Tiles are numbered through all arrays, so the tiles of a scope are neighbours. A tile is counted
// by its block, a scan over the counts says what each tile keeps and where that goes, and blocks
// write it: two kernels with a scan between them. One pass in which blocks wait for those before
// them (decoupled look-back) would read memory once less, but relies on blocks running at the same
// time, which the interpreter that tests this does not do.
#pragma once

#include <cstdint>
#include <vector>

#include "cuda/api.h"
#include "cuda/blocks.cuh"
#include "cuda/carver.cuh"
#include "rules/select.h"

namespace subgrad {

inline constexpr int kTile = 2048;  // elements
inline std::int64_t tiles_of(std::int64_t n) { return (n + kTile - 1) / kTile; }

inline constexpr int kBinBits = 11, kBins = 1 << kBinBits;

// What is known of a scope's cut: elements with a higher key are kept, and of those with this key
// the first `left`.
struct ScopeState {
  std::uint64_t key;  // while it is searched for: its upper digits
  std::int64_t left;
  int first_tile, end_tile;
  bool exact, f64, counted;  // counted: its tiles are
};

struct TileCounts {
  int above, equal;
};

// In device memory.
struct SelectScratch {
  ScopeState* scopes;
  unsigned long long* bins;  // kBins for each scope, all 0 between two passes
  TileCounts* counts;        // by tile
  std::int64_t* through;     // by tile: what the scope keeps up to its end
  int* ties;                 // by tile: how many of those with the scope's key are kept, at most
};

// An array in a list of tiles.
struct SpanItem {
  const void* data;
  std::int64_t n;
  KeptRoom kept;
  int first_tile, scope;
  int number;  // of the array in the call
  DType dtype;
};

// The work of one call: everything is launched in one stream of one device.
class Selecting {
 public:
  // `counted`: by scope, whether its tiles are counted and written; null: all are.
  Selecting(const Selector* scopes, std::size_t scope_count, const bool* counted)
      : scopes_(scopes), scope_count_(static_cast<int>(scope_count)), counted_(counted) {}

  void add(SpanItem span);  // in the order of the scopes
  void carve(Carver& carver);
  const SelectScratch& scratch() const { return scratch_; }
  const std::vector<SpanItem>& spans() const { return spans_; }
  std::int64_t tiles() const { return tiles_; }
  bool exact(int scope) const { return scopes_[scope].counts(); }

  cudaError_t set_scopes(cudaStream_t stream) const;
  cudaError_t find_keys(int processors, cudaStream_t stream) const;  // of exact scopes
  cudaError_t count_tiles(cudaStream_t stream) const;                // of exact scopes
  cudaError_t count_all_tiles(cudaStream_t stream) const;
  cudaError_t scan(cudaStream_t stream) const;  // of counted tiles
  // What is kept by array, of counted scopes; and by scope the thresholds.
  cudaError_t report(const CudaReport& to, cudaStream_t stream) const;
  cudaError_t write(int index_bytes, cudaStream_t stream) const;

 private:
  bool any_exact() const;
  bool any_counted() const;
  cudaError_t count(bool exact_only, cudaStream_t stream) const;

  const Selector* scopes_;
  int scope_count_;
  const bool* counted_;
  std::vector<SpanItem> spans_;
  std::int64_t tiles_ = 0;
  SelectScratch scratch_ = {};
};

// Where the elements of a tile go, turn by turn: whether each is kept, and how many of the tile are
// before it.
template <class C>
class TileRanks {
 public:
  __device__ TileRanks(key_t<C> key, int ties) : key_(key), ties_(ties) {}

  template <int lanes>
  __device__ void rank(const C (&x)[lanes], int count, bool (&kept)[lanes], int (&place)[lanes]) {
    // Both counts of a turn fit in 16 bits.
    unsigned mine = 0, total;
#pragma unroll
    for (int k = 0; k < lanes; ++k) {
      const key_t<C> key = magnitude_key(x[k]);
      if (k < count) mine += key > key_ ? 1u : key == key_ ? 1u << 16 : 0u;
    }
    const unsigned before = block_scan<kBlockThreads>(mine, total);
    int above = above_ + static_cast<int>(before & 0xffff);
    int equal = equal_ + static_cast<int>(before >> 16);
#pragma unroll
    for (int k = 0; k < lanes; ++k) {
      const key_t<C> key = magnitude_key(x[k]);
      const bool is_above = k < count && key > key_, is_equal = k < count && key == key_;
      kept[k] = is_above || (is_equal && equal < ties_);
      place[k] = above + min(equal, ties_);
      above += is_above;
      equal += is_equal;
    }
    above_ += static_cast<int>(total & 0xffff);
    equal_ += static_cast<int>(total >> 16);
  }

 private:
  const key_t<C> key_;
  const int ties_;
  int above_ = 0, equal_ = 0;
};

// What a scope keeps before a tile.
__device__ inline std::int64_t kept_before(const SelectScratch& scratch, int scope, int tile) {
  return tile == scratch.scopes[scope].first_tile ? 0 : scratch.through[tile - 1];
}

__device__ inline void put_index(const KeptRoom& to, int index_bytes, std::int64_t at,
                                 std::int64_t index) {
  if (index_bytes == 4) {
    static_cast<std::int32_t*>(to.indices)[at] = static_cast<std::int32_t>(index);
  } else {
    static_cast<std::int64_t*>(to.indices)[at] = index;
  }
}

}  // namespace subgrad
