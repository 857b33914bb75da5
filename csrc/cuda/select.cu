// Selection by magnitude: what each tile keeps, and its indices and values.
//
// Traffic for each f32 element, once the cut is known: 4 bytes for the counts of the tiles, and 4
// where a tile keeps anything.
#include <algorithm>

#include "core/convert.h"
#include "cuda/spans.cuh"

namespace subgrad {
namespace {

constexpr int kScanThreads = 1024;

// --- The scopes ----------------------------------------------------------------------------------

template <class C>
__device__ std::uint64_t key_of(double threshold) {
  return cut_of<C>(threshold);
}

struct ScopeList {
  struct Scope {
    double threshold;
    const double* threshold_on_device;
    ScopeState state;
  };
  static constexpr int kScopes = 50;

  ScopeState* states;
  std::int32_t first, count;
  Scope scopes[kScopes];
};
static_assert(sizeof(ScopeList) <= 4096, "the limit of parameters");

__global__ void set_scopes(const __grid_constant__ ScopeList list) {
  const int i = static_cast<int>(threadIdx.x);
  if (i >= list.count) return;
  const ScopeList::Scope& scope = list.scopes[i];
  ScopeState state = scope.state;
  if (!state.exact) {
    const double* from = scope.threshold_on_device;
    const double threshold = from != nullptr ? *from : scope.threshold;
    state.key = state.f64 ? key_of<double>(threshold) : key_of<float>(threshold);
  }
  list.states[list.first + i] = state;
}

// --- The tiles -----------------------------------------------------------------------------------

template <class T>
__global__ void __launch_bounds__(kBlockThreads) count_tile(const __grid_constant__ SpanList list) {
  using C = compute_t<T>;
  const Part part(list);
  const auto key = static_cast<key_t<C>>(list.scratch.scopes[part.span.scope].key);
  unsigned found = 0;  // both counts, which fit in 16 bits
  each_pack(part.data<T>(), part.n, [&](const auto& pack, int, int count) {
#pragma unroll
    for (int k = 0; k < int(sizeof pack.lane / sizeof(T)); ++k) {
      const key_t<C> own = magnitude_key(widen<C>(pack.lane[k]));
      if (k < count) found += own > key ? 1u : own == key ? 1u << 16 : 0u;
    }
  });
  found = block_sum<kBlockThreads>(found);
  if (threadIdx.x == 0) {
    list.scratch.counts[part.tile] = {static_cast<int>(found & 0xffff),
                                      static_cast<int>(found >> 16)};
  }
}

// A block for each scope goes over its tiles in order.
__global__ void __launch_bounds__(kScanThreads) scan_tiles(SelectScratch scratch) {
  const ScopeState scope = scratch.scopes[blockIdx.x];
  if (!scope.counted) return;
  std::int64_t above = 0, equal = 0;
  for (int turn = scope.first_tile; turn < scope.end_tile; turn += kScanThreads) {
    const int tile = turn + static_cast<int>(threadIdx.x);
    const TileCounts own = tile < scope.end_tile ? scratch.counts[tile] : TileCounts{0, 0};
    std::uint64_t total;  // of a turn, in both halves
    const std::uint64_t mine =
        static_cast<std::uint64_t>(own.above) | static_cast<std::uint64_t>(own.equal) << 32;
    const std::uint64_t before = block_scan<kScanThreads>(mine, total);
    if (tile < scope.end_tile) {
      const std::int64_t equal_before = equal + static_cast<std::int64_t>(before >> 32);
      const std::int64_t above_through =
          above + static_cast<std::int64_t>(before & 0xffffffffu) + own.above;
      const std::int64_t left = scope.left - equal_before;
      scratch.ties[tile] = static_cast<int>(max(std::int64_t{0}, min(left, std::int64_t{kTile})));
      scratch.through[tile] = above_through + min(scope.left, equal_before + own.equal);
    }
    above += static_cast<std::int64_t>(total & 0xffffffffu);
    equal += static_cast<std::int64_t>(total >> 32);
  }
}

__global__ void report_kept(const __grid_constant__ SpanList list, std::int64_t* kept) {
  const int i = static_cast<int>(threadIdx.x);
  if (i >= list.count) return;
  const SpanItem& span = list.spans[i];
  if (!list.scratch.scopes[span.scope].counted) return;
  const int end = span.first_tile + static_cast<int>((span.n + kTile - 1) / kTile);
  const std::int64_t all =
      list.scratch.through[end - 1] - kept_before(list.scratch, span.scope, span.first_tile);
  kept[span.number] = min(all, span.kept.capacity);
}

__global__ void report_thresholds(const ScopeState* scopes, int count, double* thresholds) {
  const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (i >= count) return;
  const ScopeState& scope = scopes[i];
  double magnitude;
  if (scope.key == (scope.f64 ? Keys<double>::nothing : Keys<float>::nothing)) {
    magnitude = __longlong_as_double(static_cast<long long>(Keys<double>::inf));
  } else if (scope.f64) {
    magnitude = __longlong_as_double(static_cast<long long>(scope.key));
  } else {
    magnitude = static_cast<double>(float_of(static_cast<std::uint32_t>(scope.key)));
  }
  thresholds[i] = magnitude;
}

// What a tile keeps goes to its place in the output.
template <class T>
__global__ void __launch_bounds__(kBlockThreads)
    write_tile(const __grid_constant__ SpanList list, int index_bytes) {
  using C = compute_t<T>;
  const Part part(list);
  const SpanItem& span = part.span;
  const std::int64_t before = kept_before(list.scratch, span.scope, part.tile);
  if (list.scratch.through[part.tile] == before) return;
  const std::int64_t to = before - kept_before(list.scratch, span.scope, span.first_tile);
  TileRanks<C> ranks(static_cast<key_t<C>>(list.scratch.scopes[span.scope].key),
                     list.scratch.ties[part.tile]);
  each_pack(part.data<T>(), part.n, [&](const auto& pack, int i, int count) {
    constexpr int lanes = int(sizeof pack.lane / sizeof(T));
    C x[lanes];
    bool kept[lanes];
    int place[lanes];
#pragma unroll
    for (int k = 0; k < lanes; ++k) x[k] = widen<C>(pack.lane[k]);
    ranks.rank(x, count, kept, place);
#pragma unroll
    for (int k = 0; k < lanes; ++k) {
      if (!kept[k] || to + place[k] >= span.kept.capacity) continue;
      put_index(span.kept, index_bytes, to + place[k], part.begin + i + k);
      static_cast<T*>(span.kept.values)[to + place[k]] = pack.lane[k];
    }
  });
}

}  // namespace

// --- The launches --------------------------------------------------------------------------------

void Selecting::add(SpanItem span) {
  span.first_tile = static_cast<int>(tiles_);
  tiles_ += tiles_of(span.n);
  spans_.push_back(span);
}

bool Selecting::any_counted() const {
  return counted_ == nullptr ||
         std::any_of(counted_, counted_ + scope_count_, [](bool c) { return c; });
}

bool Selecting::any_exact() const {
  return std::any_of(scopes_, scopes_ + scope_count_, [](const Selector& s) { return s.counts(); });
}

void Selecting::carve(Carver& carver) {
  scratch_.scopes = carver.take<ScopeState>(scope_count_);
  scratch_.bins = carver.take<unsigned long long>(any_exact() ? scope_count_ * kBins : 0);
  scratch_.counts = carver.take<TileCounts>(tiles_);
  scratch_.through = carver.take<std::int64_t>(tiles_);
  scratch_.ties = carver.take<int>(tiles_);
}

cudaError_t Selecting::set_scopes(cudaStream_t stream) const {
  ScopeList list;
  list.states = scratch_.scopes;
  std::size_t at = 0;
  std::int64_t tile = 0;
  for (int first = 0; first < scope_count_; first += ScopeList::kScopes) {
    list.first = first;
    list.count = std::min(ScopeList::kScopes, scope_count_ - first);
    for (int i = 0; i < list.count; ++i) {
      ScopeState state = {};
      state.exact = exact(first + i);
      state.counted = counted_ == nullptr || counted_[first + i];
      state.first_tile = static_cast<int>(tile);
      for (; at < spans_.size() && spans_[at].scope == first + i; ++at) {
        state.f64 = spans_[at].dtype == DType::f64;
        tile += tiles_of(spans_[at].n);
      }
      state.end_tile = static_cast<int>(tile);
      const Selector& scope = scopes_[first + i];
      state.left = state.exact ? scope.k : KeptRoom::kUnlimited;
      if (state.left == 0) state.key = state.f64 ? Keys<double>::nothing : Keys<float>::nothing;
      list.scopes[i] = {scope.threshold, scope.threshold_on_device, state};
    }
    SGF_CUDA_TRY(launch(&subgrad::set_scopes, 1, 64, stream, list));
  }
  return cudaSuccess;
}

cudaError_t Selecting::count(bool exact_only, cudaStream_t stream) const {
  return each_type([&](auto element, DType dtype) {
    const auto wanted = [&](const SpanItem& s) {
      return s.dtype == dtype && (exact(s.scope) || !exact_only);
    };
    return each_list(*this, kTileEach, wanted, [&](const SpanList& list, int blocks) {
      return launch(&count_tile<decltype(element)>, blocks, kBlockThreads, stream, list);
    });
  });
}

cudaError_t Selecting::count_tiles(cudaStream_t stream) const { return count(true, stream); }
cudaError_t Selecting::count_all_tiles(cudaStream_t stream) const { return count(false, stream); }

cudaError_t Selecting::scan(cudaStream_t stream) const {
  if (!any_counted()) return cudaSuccess;
  return launch(&scan_tiles, scope_count_, kScanThreads, stream, scratch_);
}

cudaError_t Selecting::report(const CudaReport& to, cudaStream_t stream) const {
  if (to.thresholds != nullptr) {
    SGF_CUDA_TRY(launch(&report_thresholds, (scope_count_ + 63) / 64, 64, stream, scratch_.scopes,
                        scope_count_, to.thresholds));
  }
  if (to.kept == nullptr || !any_counted()) return cudaSuccess;
  const auto every = [](const SpanItem&) { return true; };
  return each_list(*this, kTileEach, every, [&](const SpanList& list, int) {
    return launch(&report_kept, 1, 64, stream, list, to.kept);
  });
}

cudaError_t Selecting::write(int index_bytes, cudaStream_t stream) const {
  return each_type([&](auto element, DType dtype) {
    const auto wanted = [&](const SpanItem& s) { return s.dtype == dtype; };
    return each_list(*this, kTileEach, wanted, [&](const SpanList& list, int blocks) {
      return launch(&write_tile<decltype(element)>, blocks, kBlockThreads, stream, list,
                    index_bytes);
    });
  });
}

// --- The launchers -------------------------------------------------------------------------------

namespace {

Selecting selecting_from(const SelectSpan* spans, std::size_t count, const Selector* scopes,
                         std::size_t scope_count, Carver& carver) {
  Selecting selecting(scopes, scope_count, nullptr);
  for (std::size_t i = 0; i < count; ++i) {
    const SelectSpan& s = spans[i];
    selecting.add({s.span.data, s.span.n, s.kept, 0, s.scope, static_cast<int>(i), s.span.dtype});
  }
  selecting.carve(carver);
  return selecting;
}

}  // namespace

extern "C" {

int subgrad_cuda_select_bytes(const SelectSpan* spans, std::size_t count, const Selector* scopes,
                              std::size_t scope_count, std::size_t* bytes) {
  Carver carver(nullptr);
  selecting_from(spans, count, scopes, scope_count, carver);
  *bytes = carver.bytes();
  return cudaSuccess;
}

int subgrad_cuda_select_find(int device, void* stream, const SelectSpan* spans, std::size_t count,
                             const Selector* scopes, std::size_t scope_count, void* scratch,
                             const CudaReport* report) {
  const OnDevice on(device);
  SGF_CUDA_TRY(on.error());
  int processors = 0;
  SGF_CUDA_TRY(multiprocessors(device, processors));
  const auto s = static_cast<cudaStream_t>(stream);
  Carver carver(scratch);
  const Selecting selecting = selecting_from(spans, count, scopes, scope_count, carver);
  if (report->kept != nullptr) {
    SGF_CUDA_TRY(cudaMemsetAsync(report->kept, 0, count * sizeof *report->kept, s));
  }
  SGF_CUDA_TRY(selecting.set_scopes(s));
  SGF_CUDA_TRY(selecting.find_keys(processors, s));
  if (report->kept == nullptr) return selecting.report(*report, s);  // the thresholds are all
  SGF_CUDA_TRY(selecting.count_all_tiles(s));
  SGF_CUDA_TRY(selecting.scan(s));
  return selecting.report(*report, s);
}

int subgrad_cuda_select_write(int device, void* stream, const SelectSpan* spans, std::size_t count,
                              const Selector* scopes, std::size_t scope_count, void* scratch,
                              int index_bytes) {
  const OnDevice on(device);
  SGF_CUDA_TRY(on.error());
  Carver carver(scratch);
  return selecting_from(spans, count, scopes, scope_count, carver)
      .write(index_bytes, static_cast<cudaStream_t>(stream));
}

}  // extern "C"

}  // namespace subgrad
