// The thresholded step: the direction of SGD goes to the residual, and what is large enough there
// moves the parameter. The equations are those of rules/, in the order of cpu/sparse.inl, so the
// bits are the CPU's.
//
// Where the cut is known and nothing is to be reported, one kernel does it all: per element the
// gradient is read once, momentum and residual are read and written once, and packs of parameters
// are touched where anything is kept. Otherwise there are two: one adds to the residuals and counts
// what is kept of each tile; between them the cut is found (select.cu) and a scan says where each
// tile's report goes; the second reads the residuals again and moves the parameters. Both take a
// tile for each block. The count never leaves the device.
#include <memory>
#include <utility>

#include "core/convert.h"
#include "cuda/lists.cuh"
#include "cuda/select.cuh"
#include "rules/sparse.h"

namespace subgrad {
namespace {

constexpr int kBlocksPerMultiprocessor = 4;

// --- The list of tensors -------------------------------------------------------------------------

// Rules whose direction has no decoupled decay: these rows of kSgdRows. And those whose weight
// decay is not coupled: what is kept is released, or stepped with by one that has momentum.
constexpr int kDirections = 10, kPlain = 0, kShrinking = 10, kSteps = 15;
static_assert(kSgdRows[kDirections - 1].decay == Decay::coupled &&
              kSgdRows[kShrinking].decay == Decay::decoupled &&
              kSgdRows[kShrinking].buffer == Buffer::none &&
              kSgdRows[kSteps - 1].prox == Prox::none && kSgdRows[kSteps].prox == Prox::l1);

struct Row {
  SgdParams direction, application;
  const float* lr;
};

struct Segment {
  void* param;
  const void* grad;
  void* momentum;
  void* residual;  // null: nothing is held from step to step
  std::int64_t n;
  CudaKept kept;
  int first_tile, scope;
  int number;  // of the tensor in the call
  std::int16_t row;
  std::int8_t direction, application;  // rows of kSgdRows
  bool fused;                          // the cut is known: one kernel does it all
  bool counts;                         // the first of two also counts what will be kept
  bool fresh, reads_param, reads_momentum, writes_momentum, masks_momentum;
  bool packed;  // every operand is aligned to its packs
};

struct SparseList {
  static constexpr int kRows = 6, kSegments = 28;

  SelectScratch scratch;
  std::int64_t* kept;
  double2* energies;  // by tile: of what is kept, and of the rest; or null
  std::int32_t count, row_count, index_bytes;
  Row rows[kRows];
  Segment segments[kSegments];
  std::int32_t first_block[kSegments];
};
static_assert(sizeof(SparseList) <= 4096, "the limit of parameters");

// --- One tile ------------------------------------------------------------------------------------

// What the threads of a block share.
template <class C>
struct Shared {
  SgdCoefficients<C> direction, application;
  key_t<C> key;
};

template <class C>
__device__ void prepare(const SparseList& list, const Segment& s, Shared<C>& shared) {
  if (threadIdx.x == 0) {
    const Row& row = list.rows[s.row];
    SgdParams application = row.application;
    if (row.lr != nullptr) application.lr = *row.lr;
    shared.direction = SgdCoefficients<C>::of(row.direction);
    shared.application = SgdCoefficients<C>::of(application);
    shared.key = static_cast<key_t<C>>(list.scratch.scopes[s.scope].key);
  }
  __syncthreads();
}

// Moves parameters by what is kept. Those of which nothing is kept are written only where all move.
template <class P, class C, int lanes>
__device__ void apply(const Segment& s, const SgdCoefficients<C>& coefficients,
                      const bool (&kept)[lanes], Pack<P, lanes>& w, C (&m)[lanes], C (&v)[lanes]) {
  const auto released = [&](const auto& release, bool all) {
#pragma unroll
    for (int k = 0; k < lanes; ++k) {
      C weight = widen<C>(w.lane[k]), forgotten = m[k];
      release(kept[k], weight, forgotten, v[k]);
      if (all || kept[k]) w.lane[k] = Narrow<P>::of(weight);
      if (s.masks_momentum) m[k] = forgotten;
    }
  };
  const auto stepped = [&](auto number) {
    const SgdRule<C, decltype(number)::value> step(coefficients);
#pragma unroll
    for (int k = 0; k < lanes; ++k) {
      C weight = widen<C>(w.lane[k]);
      step(weight, m[k], take(kept[k], v[k]));
      w.lane[k] = Narrow<P>::of(weight);
    }
  };
  if (s.application == kPlain) {
    released(Release<C, Decay::none>(coefficients), false);
  } else if (s.application == kShrinking) {
    released(Release<C, Decay::decoupled>(coefficients), true);
  } else if (s.application < kShrinking) {
    with_rule_of<1, 5>(s.application, stepped);
  } else {
    with_rule_of<kShrinking + 1, kSteps>(s.application, stepped);
  }
}

// Sums of squares, each thread's own. Computed in double, where the square of an f32 is exact.
struct Energies {
  double kept = 0.0, rest = 0.0;

  template <class C, int lanes>
  __device__ void add(const C (&v)[lanes], const bool (&in)[lanes]) {
#pragma unroll
    for (int k = 0; k < lanes; ++k) {
      const double x = static_cast<double>(v[k]);
      double& sum = in[k] ? kept : rest;
      sum = fma(x, x, sum);
    }
  }
  __device__ void put(double2* to) const {
    const double all_kept = block_sum<kBlockThreads>(kept);
    const double all_rest = block_sum<kBlockThreads>(rest);
    if (threadIdx.x == 0) *to = {all_kept, all_rest};
  }
};

// Where a block works: a tile of one tensor.
template <class P, class G, class C>
struct Place {
  const Segment& s;
  const int tile;
  const std::int64_t begin;
  const int n;
  P* const w;
  const G* const g;
  C* const m;
  C* const v;

  __device__ Place(const SparseList& list, int i)
      : s(list.segments[i]),
        tile(s.first_tile + int(blockIdx.x) - list.first_block[i]),
        begin(std::int64_t{tile - s.first_tile} * kTile),
        n(static_cast<int>(min(std::int64_t{kTile}, s.n - begin))),
        w(static_cast<P*>(s.param) + begin),
        g(static_cast<const G*>(s.grad) + begin),
        m(static_cast<C*>(s.momentum) + begin),
        v(static_cast<C*>(s.residual) + begin) {}

  // The end of what is done in packs.
  __device__ int packs_end() const {
    constexpr int lanes = 16 / sizeof(C);
    return s.packed ? n / lanes * lanes : 0;
  }
};

// --- The first kernel: the residuals, and if the cut is known everything -------------------------

template <int types>
struct StepTile {
  using P = element_t<kDenseTypes[types].param>;
  using G = element_t<kDenseTypes[types].grad>;
  using C = compute_t<P>;

  const Place<P, G, C>& at;
  const Shared<C>& shared;
  const bool measure;
  int kept_count = 0;
  Energies energies = {};

  template <int lanes>
  __device__ void step(int begin, int end) {
    const Segment& s = at.s;
    for (int i = begin + static_cast<int>(threadIdx.x) * lanes; i < end;
         i += kBlockThreads * lanes) {
      const Pack<G, lanes> gp = pack_at<lanes>(at.g + i);
      Pack<C, lanes> vp, mp = {};
      Pack<P, lanes> wp = {};
#pragma unroll
      for (int k = 0; k < lanes; ++k) vp.lane[k] = nothing<C>();
      if (s.residual != nullptr && !s.fresh) vp = pack_at<lanes>(at.v + i);
      if (s.reads_momentum) mp = pack_at<lanes>(at.m + i);
      if (s.reads_param) wp = pack_at<lanes>(at.w + i);

      with_rule_of<0, kDirections>(s.direction, [&](auto number) {
        const SgdRule<C, decltype(number)::value> rule(shared.direction);
#pragma unroll
        for (int k = 0; k < lanes; ++k) {
          C weight = widen<C>(wp.lane[k]);
          const C d = rule.direction(weight, mp.lane[k], widen<C>(gp.lane[k]));
          vp.lane[k] = accumulated(vp.lane[k], d);
        }
      });

      bool kept[lanes], any = false;
#pragma unroll
      for (int k = 0; k < lanes; ++k) {
        kept[k] = at_least(vp.lane[k], shared.key);
        any = any || kept[k];
        kept_count += kept[k];
      }
      if (s.fused) {
        if (measure) energies.add(vp.lane, kept);
        if (any || s.application != kPlain) {
          if (!s.reads_param) wp = pack_at<lanes>(at.w + i);
          apply(s, shared.application, kept, wp, mp.lane, vp.lane);
          pack_at<lanes>(at.w + i) = wp;
        }
      }
      if (s.writes_momentum) pack_at<lanes>(at.m + i) = mp;
      if (s.residual != nullptr) pack_at<lanes>(at.v + i) = vp;
    }
  }
};

template <int types>
__global__ void __launch_bounds__(kBlockThreads, kBlocksPerMultiprocessor)
    sparse_step(const __grid_constant__ SparseList list) {
  using Work = StepTile<types>;
  using C = typename Work::C;
  __shared__ Shared<C> shared;
  const int i = segment_of(list, static_cast<int>(blockIdx.x));
  const Segment& s = list.segments[i];
  prepare(list, s, shared);
  const Place<typename Work::P, typename Work::G, C> at(list, i);
  Work work{at, shared, list.energies != nullptr};
  const int in_packs = at.packs_end();
  work.template step<16 / sizeof(C)>(0, in_packs);
  work.template step<1>(in_packs, at.n);

  if (!s.fused && !s.counts) return;
  const int kept = block_sum<kBlockThreads>(work.kept_count);
  if (s.fused) {
    if (threadIdx.x == 0 && kept != 0) {
      atomicAdd(reinterpret_cast<unsigned long long*>(&list.kept[s.number]),
                static_cast<unsigned long long>(kept));
    }
    if (list.energies != nullptr) work.energies.put(&list.energies[at.tile]);
  } else if (threadIdx.x == 0) {
    list.scratch.counts[at.tile] = {kept, 0};  // of a threshold, nothing ties
  }
}

// --- The second kernel: what is kept
// ---------------------------------------------------------------

template <DType type>
struct ReleaseTile {
  using P = element_t<type>;
  using C = compute_t<P>;

  const Place<P, P, C>& at;
  const Shared<C>& shared;
  const SparseList& list;
  const std::int64_t to;  // the place of the tile's first in the report
  const bool ranked;      // whether the key alone does not say what is kept, and where it goes
  TileRanks<C> ranks;
  Energies energies = {};

  template <int lanes>
  __device__ void step(int begin, int end) {
    const Segment& s = at.s;
    each_turn<lanes>(at.v, begin, end, [&](Pack<C, lanes> vp, int i, int count) {
      bool kept[lanes], any = false;
      int place[lanes];
      if (ranked) {
        ranks.rank(vp.lane, count, kept, place);
      } else {
#pragma unroll
        for (int k = 0; k < lanes; ++k) kept[k] = at_least(vp.lane[k], shared.key);
      }
      if (count == 0) return;
#pragma unroll
      for (int k = 0; k < lanes; ++k) {
        if (list.index_bytes != 0) {
          kept[k] = kept[k] && to + place[k] < s.kept.capacity;
          if (kept[k]) {
            put_index(s.kept, list.index_bytes, to + place[k], at.begin + i + k);
            static_cast<C*>(s.kept.values)[to + place[k]] = vp.lane[k];
          }
        }
        any = any || kept[k];
      }
      if (list.energies != nullptr) energies.add(vp.lane, kept);
      const bool all = s.application != kPlain;
      if (!any && !all) return;
      Pack<P, lanes> wp = pack_at<lanes>(at.w + i);
      Pack<C, lanes> mp = {};
      if (s.reads_momentum) mp = pack_at<lanes>(at.m + i);
      apply(s, shared.application, kept, wp, mp.lane, vp.lane);
      pack_at<lanes>(at.w + i) = wp;
      if (s.writes_momentum) pack_at<lanes>(at.m + i) = mp;
      pack_at<lanes>(at.v + i) = vp;
    });
  }
};

template <DType type>
__global__ void __launch_bounds__(kBlockThreads, kBlocksPerMultiprocessor)
    sparse_release(const __grid_constant__ SparseList list) {
  using Work = ReleaseTile<type>;
  using C = typename Work::C;
  __shared__ Shared<C> shared;
  const int i = segment_of(list, static_cast<int>(blockIdx.x));
  const Segment& s = list.segments[i];
  const Place<typename Work::P, typename Work::P, C> at(list, i);
  const SelectScratch& scratch = list.scratch;
  const std::int64_t before = kept_before(scratch, s.scope, at.tile);
  const std::int64_t kept = scratch.through[at.tile] - before;
  if (kept == 0 && s.application == kPlain && list.energies == nullptr) return;
  prepare(list, s, shared);
  const std::int64_t to = before - kept_before(scratch, s.scope, s.first_tile);
  const TileCounts counts = scratch.counts[at.tile];
  const bool ranked = list.index_bytes != 0 || kept != counts.above + counts.equal;
  Work work{at, shared, list, to, ranked, {shared.key, scratch.ties[at.tile]}};
  const int in_packs = at.packs_end();
  work.template step<16 / sizeof(C)>(0, in_packs);
  work.template step<1>(in_packs, at.n);
  if (list.energies != nullptr) work.energies.put(&list.energies[at.tile]);
}

// --- The sums
// --------------------------------------------------------------------------------------

// A block for each tensor adds up its tiles.
__global__ void __launch_bounds__(kBlockThreads)
    sum_energies(const __grid_constant__ SparseList list, double* energies) {
  const Segment& s = list.segments[blockIdx.x];
  const int tiles = static_cast<int>((s.n + kTile - 1) / kTile);
  double kept = 0.0, rest = 0.0;
  for (int t = static_cast<int>(threadIdx.x); t < tiles; t += kBlockThreads) {
    kept += list.energies[s.first_tile + t].x;
    rest += list.energies[s.first_tile + t].y;
  }
  kept = block_sum<kBlockThreads>(kept);
  rest = block_sum<kBlockThreads>(rest);
  if (threadIdx.x == 0) {
    energies[2 * std::int64_t{s.number}] = kept;
    energies[2 * std::int64_t{s.number} + 1] = rest;
  }
}

// --- The launches
// ----------------------------------------------------------------------------------

bool is_packed(const CudaSparseTensor& t, const void* residual, DenseTypes types) {
  const std::size_t lanes = 16 / size_of(types.momentum);
  return aligned_to(t.param, lanes * size_of(types.param)) &&
         aligned_to(t.grad, lanes * size_of(types.grad)) && aligned_to(t.momentum, 16) &&
         aligned_to(residual, 16);
}

// A call's tensors, and its scratch memory.
class SparseCall {
 public:
  SparseCall(const CudaSparseTensor* tensors, std::size_t count, const CudaScope* scopes,
             std::size_t scope_count, const CudaSparseOptions& options, void* scratch)
      : tensors_(tensors),
        count_(count),
        options_(options),
        two_passes_(new bool[scope_count]),
        selecting_(scopes, scope_count, two_passes_.get()) {
    for (std::size_t i = 0; i < scope_count; ++i) {
      two_passes_[i] = scopes[i].k >= 0 || options.index_bytes != 0;
    }
    Carver carver(scratch);
    for (std::size_t i = 0; i < count; ++i) {
      const CudaSparseTensor& t = tensors[i];
      const DType type = types_of(t).momentum;
      void* v = t.residual;
      if (v == nullptr && two_passes_[t.scope]) {
        v = carver.take<char>(t.n * static_cast<std::int64_t>(size_of(type)));
      }
      CudaKept kept = t.kept;
      if (options.index_bytes == 0) kept.capacity = kCudaUnlimited;
      selecting_.add({v, t.n, kept, 0, t.scope, static_cast<int>(i), type});
    }
    selecting_.carve(carver);
    if (options.measure) energies_ = carver.take<double2>(selecting_.tiles());
    bytes_ = carver.bytes();
  }

  std::size_t bytes() const { return bytes_; }
  const Selecting& selecting() const { return selecting_; }

  cudaError_t step(const CudaSparseRow* rows, std::int64_t* kept, cudaStream_t stream) const {
    return each_types(std::make_integer_sequence<int, kDenseTypeRows>{}, rows, kept, stream);
  }

  cudaError_t release(const CudaSparseRow* rows, cudaStream_t stream) const {
    SGF_CUDA_TRY(release_type<DType::f32>(rows, stream));
    SGF_CUDA_TRY(release_type<DType::f64>(rows, stream));
    SGF_CUDA_TRY(release_type<DType::bf16>(rows, stream));
    return release_type<DType::f16>(rows, stream);
  }

  cudaError_t sum(const CudaSparseRow* rows, double* energies, cudaStream_t stream) const {
    const auto every = [](const CudaSparseTensor&) { return true; };
    return each_list(rows, nullptr, false, every, [&](const SparseList& list, int) {
      return launch(&sum_energies, list.count, kBlockThreads, stream, list, energies);
    });
  }

 private:
  static DenseTypes types_of(const CudaSparseTensor& t) { return kDenseTypes[t.types_row]; }

  // As the first or the second kernel takes a tensor.
  Segment segment(std::size_t i, const CudaSparseRow& row, bool second) const {
    const CudaSparseTensor& t = tensors_[i];
    const SpanItem& span = selecting_.spans()[i];
    const bool exact = selecting_.exact(t.scope), two = two_passes_[t.scope];
    SparseParts parts = sparse_parts(row.params, row.momentum_correction, row.momentum_masking);
    const bool momentum = row.params.momentum != 0.0;
    Segment s = {};
    s.param = t.param;
    s.grad = t.grad;
    s.momentum = t.momentum;
    s.residual = const_cast<void*>(span.data);
    s.n = t.n;
    s.kept = span.kept;
    s.first_tile = span.first_tile;
    s.scope = t.scope;
    s.number = static_cast<int>(i);
    s.direction = static_cast<std::int8_t>(sgd_rule(parts.direction, t.first));
    if (parts.releases) parts.application.momentum = 0.0;
    s.application = static_cast<std::int8_t>(sgd_rule(parts.application, t.first));
    s.fused = !two;
    s.counts = two && !exact;
    s.reads_param = kSgdRows[s.direction].decay == Decay::coupled;
    s.fresh = t.fresh || t.residual == nullptr;
    // Whichever kernel has the momentum's equation reads it, unless it holds nothing; what masks it
    // afterwards has to read what the other has written.
    const bool has_equation = momentum && (s.fused || second != parts.releases);
    const bool masks = parts.masks_momentum && (s.fused || second);
    s.reads_momentum = (has_equation && !t.first) || (masks && second);
    s.writes_momentum = has_equation || masks;
    s.masks_momentum = masks;
    s.packed = is_packed(t, span.data, types_of(t));
    return s;
  }

  // Calls run(list, blocks) for the tensors that are wanted, in lists as long as a launch takes.
  template <class Wanted, class Run>
  cudaError_t each_list(const CudaSparseRow* rows, std::int64_t* kept, bool second,
                        const Wanted& wanted, const Run& run) const {
    SparseList list;
    list.scratch = selecting_.scratch();
    list.kept = kept;
    list.energies = energies_;
    list.index_bytes = options_.index_bytes;
    list.count = list.row_count = 0;
    int blocks = 0, last_row = -1;
    for (std::size_t i = 0; i < count_; ++i) {
      const CudaSparseTensor& t = tensors_[i];
      if (t.n == 0 || !wanted(t)) continue;
      if (list.count == SparseList::kSegments ||
          (t.params_row != last_row && list.row_count == SparseList::kRows)) {
        SGF_CUDA_TRY(run(list, blocks));
        list.count = list.row_count = blocks = 0;
        last_row = -1;
      }
      const CudaSparseRow& row = rows[t.params_row];
      if (t.params_row != last_row) {
        const SparseParts parts =
            sparse_parts(row.params, row.momentum_correction, row.momentum_masking);
        list.rows[list.row_count++] = {parts.direction, parts.application, row.lr};
        last_row = t.params_row;
      }
      Segment& s = list.segments[list.count];
      s = segment(i, row, second);
      s.row = static_cast<std::int16_t>(list.row_count - 1);
      list.first_block[list.count++] = blocks;
      blocks += static_cast<int>(tiles_of(t.n));
    }
    return list.count > 0 ? run(list, blocks) : cudaSuccess;
  }

  template <int types>
  cudaError_t step_types(const CudaSparseRow* rows, std::int64_t* kept, cudaStream_t stream) const {
    constexpr DenseTypes t = kDenseTypes[types];
    if constexpr (t.momentum != compute_dtype(t.param)) {
      return cudaSuccess;  // there is no such step
    } else {
      const auto wanted = [](const CudaSparseTensor& tensor) { return tensor.types_row == types; };
      return each_list(rows, kept, false, wanted, [&](const SparseList& list, int blocks) {
        return launch(&sparse_step<types>, blocks, kBlockThreads, stream, list);
      });
    }
  }

  template <int... types>
  cudaError_t each_types(std::integer_sequence<int, types...>, const CudaSparseRow* rows,
                         std::int64_t* kept, cudaStream_t stream) const {
    cudaError_t error = cudaSuccess;
    static_cast<void>((... && ((error = step_types<types>(rows, kept, stream)) == cudaSuccess)));
    return error;
  }

  template <DType type>
  cudaError_t release_type(const CudaSparseRow* rows, cudaStream_t stream) const {
    const auto wanted = [&](const CudaSparseTensor& t) {
      return types_of(t).param == type && two_passes_[t.scope];
    };
    return each_list(rows, nullptr, true, wanted, [&](const SparseList& list, int blocks) {
      return launch(&sparse_release<type>, blocks, kBlockThreads, stream, list);
    });
  }

  const CudaSparseTensor* tensors_;
  std::size_t count_;
  const CudaSparseOptions options_;
  std::unique_ptr<bool[]> two_passes_;  // by scope
  Selecting selecting_;
  double2* energies_ = nullptr;
  std::size_t bytes_ = 0;
};

}  // namespace

// --- The launchers -------------------------------------------------------------------------------

extern "C" {

int subgrad_cuda_sparse_bytes(const CudaSparseTensor* tensors, std::size_t count,
                              const CudaScope* scopes, std::size_t scope_count,
                              const CudaSparseOptions* options, std::size_t* bytes) {
  *bytes = SparseCall(tensors, count, scopes, scope_count, *options, nullptr).bytes();
  return cudaSuccess;
}

int subgrad_cuda_sparse_begin(int device, void* stream, const CudaSparseTensor* tensors,
                              std::size_t count, const CudaSparseRow* rows, const CudaScope* scopes,
                              std::size_t scope_count, const CudaSparseOptions* options,
                              void* scratch, const CudaSparseReport* report) {
  const OnDevice on(device);
  SGF_CUDA_TRY(on.error());
  int processors = 0;
  SGF_CUDA_TRY(multiprocessors(device, processors));
  const auto s = static_cast<cudaStream_t>(stream);
  const SparseCall call(tensors, count, scopes, scope_count, *options, scratch);
  const Selecting& selecting = call.selecting();
  SGF_CUDA_TRY(cudaMemsetAsync(report->kept, 0, count * sizeof *report->kept, s));
  SGF_CUDA_TRY(selecting.set_scopes(s));
  SGF_CUDA_TRY(call.step(rows, report->kept, s));
  SGF_CUDA_TRY(selecting.find_keys(processors, s));
  SGF_CUDA_TRY(selecting.count_tiles(s));
  SGF_CUDA_TRY(selecting.scan(s));
  return selecting.report(*report, s);
}

int subgrad_cuda_sparse_finish(int device, void* stream, const CudaSparseTensor* tensors,
                               std::size_t count, const CudaSparseRow* rows,
                               const CudaScope* scopes, std::size_t scope_count,
                               const CudaSparseOptions* options, void* scratch,
                               const CudaSparseReport* report) {
  const OnDevice on(device);
  SGF_CUDA_TRY(on.error());
  const auto s = static_cast<cudaStream_t>(stream);
  const SparseCall call(tensors, count, scopes, scope_count, *options, scratch);
  SGF_CUDA_TRY(call.release(rows, s));
  if (!options->measure || report->energies == nullptr) return cudaSuccess;
  SGF_CUDA_TRY(cudaMemsetAsync(report->energies, 0, 2 * count * sizeof *report->energies, s));
  return call.sum(rows, report->energies, s);
}

}  // extern "C"

}  // namespace subgrad
