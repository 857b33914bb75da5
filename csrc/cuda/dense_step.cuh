// The dense SGD step over any number of tensors: one launch for all tensors of the same element
// types, whatever their groups and rules.
//
// Memory traffic per element is that of the CPU's kernel: the parameter and the momentum are read
// and written once, the gradient is read once. Nothing else moves: the list of tensors travels with
// the launch, as a kernel parameter in constant memory, so there is no copy to wait for and none to
// keep alive while a captured graph replays.
//
// A block of 256 threads takes one chunk of one tensor, and each thread one or two packs of
// neighbouring elements at a time. A pack is 16 bytes of the widest operand, so that every access
// of a warp is one unbroken run of whole 32-byte sectors. The step is bound by memory: to keep it
// busy, latency times bandwidth must be on its way, some 20 KB a multiprocessor on an H100 and 45
// KB on a B200 (at 700-800 ns). Four blocks a multiprocessor, which the launch bounds ask for and
// which leave a thread 64 registers, have 1024 threads x 36-96 bytes on their way.
//
// A step with stages is the same kernel, compiled once more: the gradient's stage stands between
// its load and the rule, the average behind the store, and what the whole step depends on (whether
// it is skipped, the scale, the norm) is read by each block where it lies.
#pragma once

#include <utility>

#include "core/convert.h"
#include "cuda/dense_list.cuh"
#include "cuda/lists.cuh"
#include "rules/average.h"

namespace subgrad {
namespace {

template <int types>
constexpr int kLanes = lanes_of(kDenseTypes[types]);
template <int lanes>
constexpr int kPacks = packs_of(lanes);

// What one thread of a block works out for all: that takes arithmetic in double, of which many
// devices have little.
template <class C>
struct PlainStart {
  SgdCoefficients<C> coefficients;

  __device__ void set(const NoStages&, const DenseSegment&, const SgdParams& params) {
    coefficients = SgdCoefficients<C>::of(params);
  }
};
template <class C>
struct StagedStart {
  SgdCoefficients<C> coefficients;
  Clip<C> clip;
  Lerp<C> average;
  bool limited;

  // As the CPU does: a gradient that has a limit goes through its stage, any other's scale is one
  // with the sign that the rule multiplies it by.
  __device__ void set(const WithStages& stages, const StagedSegment& s, const SgdParams& params) {
    const CudaClip& how = stages.clip;
    const GradientStage stage = stage_of(
        params, unscale_of(how), how.sums != nullptr ? how.sums[s.sum] : SquareSum{}, s.wide);
    limited = stage.limit != kAbsent;
    clip = Clip<C>(stage);
    coefficients = SgdCoefficients<C>::of(params, limited ? 1.0 : stage.scale);
    average = Lerp<C>(params.ema_decay);
  }
};

// A chunk of one tensor, the whole block's work: loads and stores once for all rules, which differ
// in a few instructions between them.
template <int types, bool staged>
struct Chunk {
  static constexpr DenseTypes kTypes = kDenseTypes[types];
  using P = element_t<kTypes.param>;
  using G = element_t<kTypes.grad>;
  using M = element_t<kTypes.momentum>;
  using C = compute_t<P>;
  using Start = std::conditional_t<staged, StagedStart<C>, PlainStart<C>>;

  P* w;
  const G* g;
  M* m;
  C* average;  // null: none is kept
  int rule;
  bool reads_momentum, writes_momentum, first_average;
  const Start& start;

  template <int count>
  __device__ void apply(C (&wv)[count], C (&mv)[count], C (&gv)[count]) const {
    if constexpr (staged) {
      if (start.limited) {
#pragma unroll
        for (int k = 0; k < count; ++k) gv[k] = start.clip(gv[k]);
      }
    }
    with_rule(rule, [&](auto number) {
      constexpr int row = decltype(number)::value;
      const SgdRule<C, row> step(start.coefficients);
#pragma unroll
      for (int k = 0; k < count; ++k) step(wv[k], mv[k], gv[k]);
    });
  }

  // Of `lanes` neighbours: what is there is read only if the average holds something.
  template <int lanes>
  __device__ void move_average(C* e, const C* wv) const {
    constexpr int widest = 16 / int{sizeof(C)}, part = lanes < widest ? lanes : widest;
#pragma unroll
    for (int k = 0; k < lanes; k += part) {
      Pack<C, part> pack;
      if (!first_average) pack = pack_at<part>(e + k);
#pragma unroll
      for (int j = 0; j < part; ++j) {
        pack.lane[j] = first_average ? wv[k + j] : start.average(pack.lane[j], wv[k + j]);
      }
      pack_at<part>(e + k) = pack;
    }
  }

  // Elements [begin, end), of which there is a whole number of packs. All loads are on their way
  // before anything waits for one: there is no branch between them (a pack that would lie beyond
  // the end is read from the first one's place, and not stored), and no conversion.
  template <int lanes>
  __device__ void step(int begin, int end) const {
    constexpr int packs = kPacks<lanes>, stride = kDenseThreads * lanes;
    for (int i = begin + static_cast<int>(threadIdx.x) * lanes; i < end; i += packs * stride) {
      Pack<P, lanes> wp[packs];
      Pack<G, lanes> gp[packs];
      Pack<M, lanes> mp[packs];
      int at[packs];
#pragma unroll
      for (int u = 0; u < packs; ++u) {
        at[u] = i + u * stride < end ? i + u * stride : i;
        wp[u] = pack_at<lanes>(w + at[u]);
        gp[u] = pack_at<lanes>(g + at[u]);
      }
      if (reads_momentum) {
#pragma unroll
        for (int u = 0; u < packs; ++u) mp[u] = pack_at<lanes>(m + at[u]);
      }
      C wv[packs * lanes], gv[packs * lanes], mv[packs * lanes];
      widen_packs(wp, wv);
      widen_packs(gp, gv);
      widen_packs(mp, mv);
      apply(wv, mv, gv);
      narrow_packs(wv, wp);
      narrow_packs(mv, mp);
#pragma unroll
      for (int u = 0; u < packs; ++u) {
        if (i + u * stride >= end) continue;
        if (writes_momentum) pack_at<lanes>(m + at[u]) = mp[u];
        pack_at<lanes>(w + at[u]) = wp[u];
        if constexpr (staged) {
          if (average != nullptr) move_average<lanes>(average + at[u], wv + u * lanes);
        }
      }
    }
  }
};

// The work of a block. The list is a kernel's parameter.
template <int types, class List>
__device__ __forceinline__ void step_chunk(const List& list) {
  using Work = Chunk<types, List::kStaged>;
  if constexpr (List::kStaged) {
    if (skips(list.clip)) return;
  }
  const int block = static_cast<int>(blockIdx.x), i = segment_of(list, block);
  const auto& s = list.segments[i];
  __shared__ typename Work::Start start;
  if (threadIdx.x == 0) {
    const DenseGroup& group = list.groups[s.group];
    SgdParams params = group.params;
    if (group.lr != nullptr) params.lr = *group.lr;
    start.set(list, s, params);
  }
  __syncthreads();

  const std::int64_t begin = std::int64_t{block - list.first_block[i]} * list.chunk;
  const int n = static_cast<int>(min(std::int64_t{list.chunk}, s.n - begin));
  Work work{static_cast<typename Work::P*>(s.param) + begin,
            static_cast<const typename Work::G*>(s.grad) + begin,
            static_cast<typename Work::M*>(s.momentum) + begin,
            nullptr,
            s.rule,
            s.reads_momentum,
            s.writes_momentum,
            false,
            start};
  if constexpr (List::kStaged) {
    const bool first = s.counts != nullptr ? s.counts->momentum_before == 0 : s.first;
    if (first) work.rule = s.first_rule;
    work.reads_momentum = s.reads_momentum && !first;
    if (s.average != nullptr) work.average = static_cast<typename Work::C*>(s.average) + begin;
    work.first_average = s.counts != nullptr ? s.counts->average_before == 0 : s.first_average;
  }
  const int in_packs = s.packed ? n / kLanes<types> * kLanes<types> : 0;
  work.template step<kLanes<types>>(0, in_packs);
  work.template step<1>(in_packs, n);  // a tensor's last elements, or all that lie askew
}

// --- The launches --------------------------------------------------------------------------------

// What a launcher of these steps by: the kernels of all element types, the bounds that they share.
template <int types, bool staged>
constexpr int kMinBlocks = kDenseBlocks<compute_t<element_t<kDenseTypes[types].param>>, staged>;
using TypeRows = std::make_integer_sequence<int, kDenseTypeRows>;

inline bool packed(const DenseTensor& t, const DenseTypes& types) {
  const auto lanes = static_cast<std::size_t>(lanes_of(types));
  return aligned_to(t.param, lanes * size_of(types.param)) &&
         aligned_to(t.grad, lanes * size_of(types.grad)) &&
         aligned_to(t.momentum, lanes * size_of(types.momentum));
}

// The smallest chunk that does not cut the work into many more blocks than fit the device at once;
// a chunk is a number of tiles, so that only a tensor's last one has a rest.
template <class List>
int cut(List& list, int tile, int multiprocessors) {
  constexpr std::int64_t kWaves = 8, kMostTiles = std::int64_t{1} << 16;
  std::int64_t tiles = 0;
  for (int i = 0; i < list.count; ++i) tiles += (list.segments[i].n + tile - 1) / tile;
  const std::int64_t blocks = kWaves * kDenseBlocksPerMultiprocessor * multiprocessors;
  list.chunk = static_cast<int>(tile * std::clamp(tiles / blocks, std::int64_t{1}, kMostTiles));
  std::int64_t first = 0;
  for (int i = 0; i < list.count; ++i) {
    list.first_block[i] = static_cast<int>(first);
    first += (list.segments[i].n + list.chunk - 1) / list.chunk;
  }
  return static_cast<int>(first);
}

inline void set_rules(DenseSegment& s, const SgdParams& params, bool first) {
  const int rule = sgd_rule(params, first);
  s.rule = static_cast<std::int16_t>(rule);
  s.reads_momentum = kSgdRows[rule].buffer == Buffer::accumulate;
  s.writes_momentum = kSgdRows[rule].buffer != Buffer::none;
}

// Steps those tensors that have these element types, in as many launches as lists are needed.
// complete(segment, i, group) adds what a tensor has beside its operands.
template <class List, class Complete>
class Launches {
 public:
  Launches(const void* kernel, int types, const DenseCall& call, List& list,
           const Complete& complete)
      : kernel_(kernel), types_(types), call_(call), list_(list), complete_(complete) {
    list_.count = 0;
  }

  cudaError_t run_all() {
    for (std::size_t i = 0; i < call_.count; ++i) {
      const DenseTensor& t = call_.tensors[i];
      if (t.n == 0 || t.types != types_) continue;
      SGF_CUDA_TRY(add(i, t, call_.groups[t.group]));
    }
    return run();
  }

 private:
  cudaError_t add(std::size_t i, const DenseTensor& t, const DenseGroup& group) {
    const bool new_group = t.group != last_group_ || list_.count == 0;
    if (list_.count == List::kSegments || (new_group && groups_ == List::kGroups))
      SGF_CUDA_TRY(run());
    if (t.group != last_group_ || list_.count == 0) {
      last_group_ = t.group;
      list_.groups[groups_++] = group;
    }
    auto& s = list_.segments[list_.count++];
    s.param = t.param;
    s.grad = t.grad;
    s.momentum = t.momentum;
    s.n = t.n;
    s.group = static_cast<std::int16_t>(groups_ - 1);
    s.packed = packed(t, kDenseTypes[types_]);
    complete_(s, i, group.params);
    return cudaSuccess;
  }

  cudaError_t run() {
    if (list_.count == 0) return cudaSuccess;
    const int blocks = cut(list_, tile_of(kDenseTypes[types_]), call_.multiprocessors);
    void* arguments[] = {&list_};
    SGF_CUDA_TRY(cudaLaunchKernel(kernel_, blocks, kDenseThreads, arguments, 0, call_.stream));
    list_.count = groups_ = 0;
    return cudaSuccess;
  }

  const void* kernel_;
  int types_;
  const DenseCall& call_;
  List& list_;
  const Complete& complete_;
  int groups_ = 0, last_group_ = -1;
};

// Every element type with the list that is long enough; prepare(list) says what all its tensors
// share, and returns the kernels by their types.
template <class Small, class Large, class Prepare, class Complete>
cudaError_t step_all_types(const DenseCall& call, const Prepare& prepare,
                           const Complete& complete) {
  std::size_t tensors_of[kDenseTypeRows] = {};
  for (std::size_t i = 0; i < call.count; ++i) ++tensors_of[call.tensors[i].types];
  const auto step = [&](auto* of_this_type, int types) {
    std::remove_pointer_t<decltype(of_this_type)> list;
    const void* const kernel = prepare(list)[types];
    return Launches<decltype(list), Complete>(kernel, types, call, list, complete).run_all();
  };
  for (int types = 0; types < kDenseTypeRows; ++types) {
    if (tensors_of[types] == 0) continue;
    const bool few = tensors_of[types] <= Small::kSegments;
    SGF_CUDA_TRY(few ? step(static_cast<Small*>(nullptr), types)
                     : step(static_cast<Large*>(nullptr), types));
  }
  return cudaSuccess;
}

}  // namespace
}  // namespace subgrad
