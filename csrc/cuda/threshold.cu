// The thresholded step: the direction of SGD goes to the residual, and what is large enough there
// moves the parameter. The equations are those of rules/, in the order of
// cpu/threshold/threshold.inl, so the bits are the CPU's.
//
// Where the cut is known and nothing is to be reported, one kernel does it all: per element the
// gradient is read once, momentum and residual are read and written once, and packs of parameters
// are touched where anything is kept. Otherwise there are two: one adds to the residuals and counts
// what is kept of each tile; between them the cut is found (select.cu) and a scan says where each
// tile's report goes; the second reads the residuals again and moves the parameters. Both take a
// tile for each block. The count never leaves the device.
#include <utility>

#include "cuda/threshold_tile.cuh"

namespace subgrad {
namespace {

constexpr int kBlocksPerMultiprocessor = 4;

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
    const ThresholdItem& s = at.s;
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

      with_rule_if<is_direction>(s.direction, [&](auto number) {
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

// The blocks that a multiprocessor shall hold at once. Four leave a thread 64 registers, which are
// too few with a gradient of doubles: some would be spilled.
template <int types>
constexpr int kStepBlocks = kDenseTypes[types].grad == DType::f64 ? 3 : kBlocksPerMultiprocessor;

template <int types>
__global__ void __launch_bounds__(kBlockThreads, kStepBlocks<types>)
    threshold_step(const __grid_constant__ ThresholdList list) {
  using Work = StepTile<types>;
  using C = typename Work::C;
  __shared__ Shared<C> shared;
  const int i = segment_of(list, static_cast<int>(blockIdx.x));
  const ThresholdItem& s = list.segments[i];
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

// --- The second kernel: what is kept -------------------------------------------------------------

template <DType type>
struct ReleaseTile {
  using P = element_t<type>;
  using C = compute_t<P>;

  const Place<P, P, C>& at;
  const Shared<C>& shared;
  const ThresholdList& list;
  const std::int64_t to;  // the place of the tile's first in the report
  const bool ranked;      // whether the key alone does not say what is kept, and where it goes
  TileRanks<C> ranks;
  Energies energies = {};

  template <int lanes>
  __device__ void step(int begin, int end) {
    const ThresholdItem& s = at.s;
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
    threshold_release(const __grid_constant__ ThresholdList list) {
  using Work = ReleaseTile<type>;
  using C = typename Work::C;
  __shared__ Shared<C> shared;
  const int i = segment_of(list, static_cast<int>(blockIdx.x));
  const ThresholdItem& s = list.segments[i];
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

// --- The sums ------------------------------------------------------------------------------------

// A block adds up the tiles of one tensor, in an order that depends on their number only.
__global__ void __launch_bounds__(kBlockThreads)
    sum_energies(const __grid_constant__ ThresholdList list, double* energies) {
  const ThresholdItem& s = list.segments[blockIdx.x];
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

// --- The launches --------------------------------------------------------------------------------

template <int types>
cudaError_t step_types(const ThresholdCall& call, const ThresholdGroup* groups, std::int64_t* kept,
                       cudaStream_t stream) {
  constexpr DenseTypes t = kDenseTypes[types];
  if constexpr (t.momentum != compute_dtype(t.param)) {
    return cudaSuccess;  // no thresholded step has these types
  } else {
    const auto wanted = [](const ThresholdTensor& tensor) { return tensor.types == types; };
    return call.each_list(groups, kept, false, wanted, [&](const ThresholdList& list, int blocks) {
      return launch(&threshold_step<types>, blocks, kBlockThreads, stream, list);
    });
  }
}

template <int... types>
cudaError_t step_tensors(std::integer_sequence<int, types...>, const ThresholdCall& call,
                         const ThresholdGroup* groups, std::int64_t* kept, cudaStream_t stream) {
  cudaError_t error = cudaSuccess;
  static_cast<void>(
      (... && ((error = step_types<types>(call, groups, kept, stream)) == cudaSuccess)));
  return error;
}

template <DType type>
cudaError_t release_type(const ThresholdCall& call, const ThresholdGroup* groups,
                         cudaStream_t stream) {
  const auto wanted = [&](const ThresholdTensor& t) {
    return call.types_of(t).param == type && call.two_passes(t);
  };
  return call.each_list(groups, nullptr, true, wanted, [&](const ThresholdList& list, int blocks) {
    return launch(&threshold_release<type>, blocks, kBlockThreads, stream, list);
  });
}

}  // namespace

// --- The launchers -------------------------------------------------------------------------------

extern "C" {

int subgrad_cuda_threshold_bytes(const ThresholdTensor* tensors, std::size_t count,
                                 const Selector* scopes, std::size_t scope_count,
                                 const ThresholdOptions* options, std::size_t* bytes) {
  *bytes = ThresholdCall(tensors, count, scopes, scope_count, *options, nullptr).bytes();
  return cudaSuccess;
}

int subgrad_cuda_threshold_begin(int device, void* stream, const ThresholdTensor* tensors,
                                 std::size_t count, const ThresholdGroup* groups,
                                 const Selector* scopes, std::size_t scope_count,
                                 const ThresholdOptions* options, void* scratch,
                                 const CudaReport* report) {
  const OnDevice on(device);
  SGF_CUDA_TRY(on.error());
  int processors = 0;
  SGF_CUDA_TRY(multiprocessors(device, processors));
  const auto s = static_cast<cudaStream_t>(stream);
  const ThresholdCall call(tensors, count, scopes, scope_count, *options, scratch);
  const Selecting& selecting = call.selecting();
  SGF_CUDA_TRY(cudaMemsetAsync(report->kept, 0, count * sizeof *report->kept, s));
  SGF_CUDA_TRY(selecting.set_scopes(s));
  SGF_CUDA_TRY(step_tensors(std::make_integer_sequence<int, kDenseTypeRows>{}, call, groups,
                            report->kept, s));
  SGF_CUDA_TRY(selecting.find_keys(processors, s));
  SGF_CUDA_TRY(selecting.count_tiles(s));
  SGF_CUDA_TRY(selecting.scan(s));
  return selecting.report(*report, s);
}

int subgrad_cuda_threshold_finish(int device, void* stream, const ThresholdTensor* tensors,
                                  std::size_t count, const ThresholdGroup* groups,
                                  const Selector* scopes, std::size_t scope_count,
                                  const ThresholdOptions* options, void* scratch,
                                  const CudaReport* report) {
  const OnDevice on(device);
  SGF_CUDA_TRY(on.error());
  const auto s = static_cast<cudaStream_t>(stream);
  const ThresholdCall call(tensors, count, scopes, scope_count, *options, scratch);
  SGF_CUDA_TRY(release_type<DType::f32>(call, groups, s));
  SGF_CUDA_TRY(release_type<DType::f64>(call, groups, s));
  SGF_CUDA_TRY(release_type<DType::bf16>(call, groups, s));
  SGF_CUDA_TRY(release_type<DType::f16>(call, groups, s));
  if (!options->measure || report->energies == nullptr) return cudaSuccess;
  SGF_CUDA_TRY(cudaMemsetAsync(report->energies, 0, 2 * count * sizeof *report->energies, s));
  const auto every = [](const ThresholdTensor&) { return true; };
  return call.each_list(groups, nullptr, false, every, [&](const ThresholdList& list, int) {
    return launch(&sum_energies, list.count, kBlockThreads, s, list, report->energies);
  });
}

}  // extern "C"

}  // namespace subgrad
