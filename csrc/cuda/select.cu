// The exact k-th magnitude, and the indices and values of what is kept.
//
// The k-th key is found digit by digit (a radix select), as on the CPU: 31 bits of a key in three
// passes of up to 11 bits, 63 bits in six. A pass reads the arrays once. A block counts the digits
// of its chunk in shared memory and adds what it found to the scope's bins; one block for each
// scope then takes the digit in which the k-th lies. Only integers are added, so the order of the
// blocks does not matter. Where one digit is much more frequent than others (equal elements, zeros)
// a warp counts its most likely digit by one addition, or 32 lanes would queue for one bin.
//
// Traffic for each f32 element: 12 bytes for the key, 4 for the counts of the tiles, and 4 where
// a tile keeps anything.
#include "cuda/select.cuh"

#include <algorithm>

#include "core/convert.h"
#include "cuda/lists.cuh"

namespace subgrad {
namespace {

constexpr int kScanThreads = 1024;

// --- The list of spans ---------------------------------------------------------------------------

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

// --- The key -------------------------------------------------------------------------------------

template <class C>
__device__ std::uint64_t key_of(double threshold) {
  return cut_of<C>(threshold);
}

struct ScopeList {
  struct Scope {
    CudaScope scope;
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
  const CudaScope& scope = list.scopes[i].scope;
  ScopeState state = list.scopes[i].state;
  if (!state.exact) {
    const double* from = scope.threshold_on_device;
    const double threshold = from != nullptr ? *from : scope.threshold;
    state.key = state.f64 ? key_of<double>(threshold) : key_of<float>(threshold);
  }
  list.states[list.first + i] = state;
}

template <class T>
__global__ void __launch_bounds__(kBlockThreads)
    count_digits(const __grid_constant__ SpanList list, int shift) {
  using C = compute_t<T>;
  __shared__ unsigned bins[kBins];
  for (int b = static_cast<int>(threadIdx.x); b < kBins; b += kBlockThreads) bins[b] = 0;
  __syncthreads();

  const Part part(list);
  const std::uint64_t known = list.scratch.scopes[part.span.scope].key;
  each_pack(part.data<T>(), part.n, [&](const auto& pack, int, int count) {
#pragma unroll
    for (int k = 0; k < int(sizeof pack.lane / sizeof(T)); ++k) {
      const std::uint64_t key = magnitude_key(widen<C>(pack.lane[k]));
      const std::uint64_t digit =
          (key ^ known) >> shift;  // no more than that: the upper ones agree
      const bool in = k < count && digit < kBins;
      const unsigned lanes = __ballot_sync(kAllLanes, in);
      if (lanes == 0) continue;
      const int first = __ffs(static_cast<int>(lanes)) - 1, bin = static_cast<int>(digit);
      const int likely = __shfl_sync(kAllLanes, bin, first);
      const unsigned alike = __ballot_sync(kAllLanes, in && bin == likely);
      if (lane_number() == first) {
        atomicAdd(&bins[likely], static_cast<unsigned>(__popc(alike)));
      } else if (in && bin != likely) {
        atomicAdd(&bins[bin], 1u);
      }
    }
  });
  __syncthreads();
  unsigned long long* const all = list.scratch.bins + std::int64_t{part.span.scope} * kBins;
  for (int b = static_cast<int>(threadIdx.x); b < kBins; b += kBlockThreads) {
    if (bins[b] != 0) atomicAdd(&all[b], static_cast<unsigned long long>(bins[b]));
  }
}

// A block for each scope: the digit in which the k-th key lies, and how many are left to be found
// among those that have it. Leaves the bins at 0.
__global__ void __launch_bounds__(kBlockThreads)
    choose_digit(SelectScratch scratch, int shift, bool f64) {
  constexpr int kOwn = kBins / kBlockThreads;
  ScopeState& scope = scratch.scopes[blockIdx.x];
  if (!scope.exact || scope.f64 != f64 || scope.left == 0) return;
  unsigned long long* const bins = scratch.bins + std::int64_t{blockIdx.x} * kBins;
  const int top = kBins - 1 - static_cast<int>(threadIdx.x) * kOwn;  // digits in descending order
  std::int64_t own[kOwn], sum = 0, total;
  for (int b = 0; b < kOwn; ++b) {
    own[b] = static_cast<std::int64_t>(bins[top - b]);
    bins[top - b] = 0;
    sum += own[b];
  }
  const std::int64_t wanted = scope.left;
  std::int64_t before = block_scan<kBlockThreads>(sum, total);
  if (before >= wanted || before + sum < wanted) return;  // in the bins of another thread
  int b = 0;
  for (; before + own[b] < wanted; ++b) before += own[b];
  scope.key |= static_cast<std::uint64_t>(top - b) << shift;
  scope.left = wanted - before;
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

// --- The launches --------------------------------------------------------------------------------

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
constexpr std::int64_t kTileEach = std::int64_t{1} << 62;

// Calls launch_type(T{}) with each element type there is.
template <class Body>
cudaError_t each_type(const Body& body) {
  SGF_CUDA_TRY(body(float{}, DType::f32));
  SGF_CUDA_TRY(body(double{}, DType::f64));
  SGF_CUDA_TRY(body(bf16{}, DType::bf16));
  return body(f16{}, DType::f16);
}

}  // namespace

void Selecting::add(SpanItem span) {
  span.first_tile = static_cast<int>(tiles_);
  tiles_ += tiles_of(span.n);
  spans_.push_back(span);
}

bool Selecting::any_exact() const {
  return std::any_of(scopes_, scopes_ + scope_count_, [](const CudaScope& s) { return s.k >= 0; });
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
      const std::int64_t k = scopes_[first + i].k;
      state.left = state.exact ? k : kCudaUnlimited;
      if (k == 0) state.key = state.f64 ? Keys<double>::nothing : Keys<float>::nothing;
      list.scopes[i] = {scopes_[first + i], state};
    }
    SGF_CUDA_TRY(launch(&subgrad::set_scopes, 1, 64, stream, list));
  }
  return cudaSuccess;
}

cudaError_t Selecting::find_keys(int processors, cudaStream_t stream) const {
  if (!any_exact()) return cudaSuccess;
  const std::size_t bytes = static_cast<std::size_t>(scope_count_) * kBins * sizeof *scratch_.bins;
  SGF_CUDA_TRY(cudaMemsetAsync(scratch_.bins, 0, bytes, stream));
  for (const bool f64 : {false, true}) {
    const auto of_type = [&](const SpanItem& s) { return (s.dtype == DType::f64) == f64; };
    if (std::none_of(spans_.begin(), spans_.end(), of_type)) continue;
    // The first digit has what the others leave of 31 or 63 bits.
    for (int shift = (f64 ? 62 : 30) / kBinBits * kBinBits; shift >= 0; shift -= kBinBits) {
      SGF_CUDA_TRY(each_type([&](auto element, DType dtype) {
        if ((dtype == DType::f64) != f64) return cudaSuccess;
        const auto wanted = [&](const SpanItem& s) {
          return s.dtype == dtype && exact(s.scope) && scopes_[s.scope].k > 0;
        };
        return each_list(*this, 16 * processors, wanted, [&](const SpanList& list, int blocks) {
          return launch(&count_digits<decltype(element)>, blocks, kBlockThreads, stream, list,
                        shift);
        });
      }));
      SGF_CUDA_TRY(
          launch(&choose_digit, scope_count_, kBlockThreads, stream, scratch_, shift, f64));
    }
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
  return launch(&scan_tiles, scope_count_, kScanThreads, stream, scratch_);
}

cudaError_t Selecting::report(const CudaSparseReport& to, cudaStream_t stream) const {
  if (to.thresholds != nullptr) {
    SGF_CUDA_TRY(launch(&report_thresholds, (scope_count_ + 63) / 64, 64, stream, scratch_.scopes,
                        scope_count_, to.thresholds));
  }
  if (to.kept == nullptr) return cudaSuccess;
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

Selecting selecting_from(const CudaSpan* spans, std::size_t count, const CudaScope* scopes,
                         std::size_t scope_count, Carver& carver) {
  Selecting selecting(scopes, scope_count, nullptr);
  for (std::size_t i = 0; i < count; ++i) {
    const CudaSpan& s = spans[i];
    selecting.add({s.data, s.n, s.kept, 0, s.scope, static_cast<int>(i), s.dtype});
  }
  selecting.carve(carver);
  return selecting;
}

}  // namespace

extern "C" {

int subgrad_cuda_select_bytes(const CudaSpan* spans, std::size_t count, const CudaScope* scopes,
                              std::size_t scope_count, std::size_t* bytes) {
  Carver carver(nullptr);
  selecting_from(spans, count, scopes, scope_count, carver);
  *bytes = carver.bytes();
  return cudaSuccess;
}

int subgrad_cuda_select_find(int device, void* stream, const CudaSpan* spans, std::size_t count,
                             const CudaScope* scopes, std::size_t scope_count, void* scratch,
                             const CudaSparseReport* report) {
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

int subgrad_cuda_select_write(int device, void* stream, const CudaSpan* spans, std::size_t count,
                              const CudaScope* scopes, std::size_t scope_count, void* scratch,
                              int index_bytes) {
  const OnDevice on(device);
  SGF_CUDA_TRY(on.error());
  Carver carver(scratch);
  return selecting_from(spans, count, scopes, scope_count, carver)
      .write(index_bytes, static_cast<cudaStream_t>(stream));
}

}  // extern "C"

}  // namespace subgrad
