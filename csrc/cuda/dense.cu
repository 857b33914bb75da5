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
#include <algorithm>
#include <utility>

#include "core/convert.h"
#include "cuda/api.h"
#include "cuda/launch.cuh"
#include "cuda/lists.cuh"
#include "rules/table.h"

namespace subgrad {
namespace {

constexpr int kThreads = 256;
constexpr int kBlocksPerMultiprocessor = 4;

// --- The list of tensors -------------------------------------------------------------------------

struct Segment {
  void* param;
  const void* grad;
  void* momentum;
  std::int64_t n;
  std::int16_t group, rule;
  bool reads_momentum, writes_momentum;
  bool packed;  // every operand is aligned to its packs
};

// Kernel parameters hold 4 KB, or 32 KB since CUDA 12.1 on the architectures there are since then.
// A launch costs the host the copying of all of them, used or not; so there is a small list for
// those many steps that have few tensors, and a large one that takes any usual model in one launch.
template <int kBytes>
struct DenseList {
  static constexpr int kGroups = kBytes / 512;
  static constexpr int kFixed = 32 + kGroups * int{sizeof(DenseGroup)};
  static constexpr int kSegments = (kBytes - kFixed) / int{sizeof(Segment) + sizeof(std::int32_t)};

  CudaDenseOptions options;
  std::int32_t count;
  std::int32_t chunk;  // elements, a multiple of the tile
  DenseGroup groups[kGroups];
  Segment segments[kSegments];
  std::int32_t first_block[kSegments];  // of each segment; apart, as blocks search in it
};
using SmallList = DenseList<4096>;
#if CUDART_VERSION >= 12010
using LargeList = DenseList<32764>;
#else
using LargeList = SmallList;
#endif
static_assert(sizeof(SmallList) <= 4096 && sizeof(LargeList) <= 32764, "the limits of parameters");

// --- The step ------------------------------------------------------------------------------------

// As many elements as fill 16 bytes of the widest operand.
constexpr int lanes_of(const DenseTypes& t) {
  const std::size_t widest = std::max({size_of(t.param), size_of(t.grad), size_of(t.momentum)});
  return static_cast<int>(16 / widest);
}
template <int types>
constexpr int kLanes = lanes_of(kDenseTypes[types]);
// Packs per thread and turn, all loaded before any is stored. 8 lanes of 16-bit numbers, once they
// are widened, and 2 of float64 leave registers for no more than one.
constexpr int packs_of(int lanes) { return lanes == 8 || lanes == 2 ? 1 : 2; }
template <int lanes>
constexpr int kPacks = packs_of(lanes);
constexpr int tile_of(const DenseTypes& t) {
  return kThreads * packs_of(lanes_of(t)) * lanes_of(t);
}

// A chunk of one tensor, the whole block's work: loads and stores once for all rules, which differ
// in a few instructions between them.
template <int types>
struct Chunk {
  static constexpr DenseTypes kTypes = kDenseTypes[types];
  using P = element_t<kTypes.param>;
  using G = element_t<kTypes.grad>;
  using M = element_t<kTypes.momentum>;
  using C = compute_t<P>;

  P* w;
  const G* g;
  M* m;
  const Segment& segment;
  const SgdCoefficients<C>& coefficients;
  C unscale;

  template <int count>
  __device__ void apply(C (&wv)[count], C (&mv)[count], const C (&gv)[count]) const {
    with_rule(segment.rule, [&](auto number) {
      constexpr int row = decltype(number)::value;
      const SgdRule<C, row> step(coefficients);
#pragma unroll
      for (int k = 0; k < count; ++k) step(wv[k], mv[k], mul(unscale, gv[k]));
    });
  }

  // Elements [begin, end), of which there is a whole number of packs. All loads are on their way
  // before anything waits for one: there is no branch between them (a pack that would lie beyond
  // the end is read from the first one's place, and not stored), and no conversion.
  template <int lanes>
  __device__ void step(int begin, int end) const {
    constexpr int packs = kPacks<lanes>, stride = kThreads * lanes;
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
      if (segment.reads_momentum) {
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
        if (segment.writes_momentum) pack_at<lanes>(m + at[u]) = mp[u];
        pack_at<lanes>(w + at[u]) = wp[u];
      }
    }
  }
};

template <int types, class List>
__global__ void __launch_bounds__(kThreads, kBlocksPerMultiprocessor)
    dense_step(const __grid_constant__ List list) {
  using Work = Chunk<types>;
  using C = typename Work::C;
  const CudaDenseOptions& options = list.options;
  if (options.found_inf != nullptr && *options.found_inf != 0.0f) return;

  const int block = static_cast<int>(blockIdx.x), i = segment_of(list, block);
  const Segment& s = list.segments[i];
  // One thread works the coefficients out for all: that takes arithmetic in double, of which many
  // devices have little.
  __shared__ SgdCoefficients<C> coefficients;
  if (threadIdx.x == 0) {
    const DenseGroup& group = list.groups[s.group];
    SgdParams params = group.params;
    if (group.lr != nullptr) params.lr = *group.lr;
    coefficients = SgdCoefficients<C>::of(params);
  }
  __syncthreads();

  const std::int64_t begin = std::int64_t{block - list.first_block[i]} * list.chunk;
  const int n = static_cast<int>(min(std::int64_t{list.chunk}, s.n - begin));
  const Work work{static_cast<typename Work::P*>(s.param) + begin,
                  static_cast<const typename Work::G*>(s.grad) + begin,
                  static_cast<typename Work::M*>(s.momentum) + begin,
                  s,
                  coefficients,
                  options.grad_scale != nullptr ? C(1) / C(*options.grad_scale) : C(1)};
  const int in_packs = s.packed ? n / kLanes<types> * kLanes<types> : 0;
  work.template step<kLanes<types>>(0, in_packs);
  work.template step<1>(in_packs, n);  // a tensor's last elements, or all that lie askew
}

// --- The launcher --------------------------------------------------------------------------------

template <class List, int... types>
const void* kernel_of(int wanted, std::integer_sequence<int, types...>) {
  static const void* const kernels[] = {reinterpret_cast<const void*>(&dense_step<types, List>)...};
  return kernels[wanted];
}

bool packed(const DenseTensor& t, const DenseTypes& types) {
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
  const std::int64_t blocks = kWaves * kBlocksPerMultiprocessor * multiprocessors;
  list.chunk = static_cast<int>(tile * std::clamp(tiles / blocks, std::int64_t{1}, kMostTiles));
  std::int64_t first = 0;
  for (int i = 0; i < list.count; ++i) {
    list.first_block[i] = static_cast<int>(first);
    first += (list.segments[i].n + list.chunk - 1) / list.chunk;
  }
  return static_cast<int>(first);
}

// Steps those tensors that have these element types, in as many launches as lists are needed.
template <class List>
class Launches {
 public:
  Launches(int types, const CudaDenseOptions& options, int multiprocessors, cudaStream_t stream)
      : types_(types), multiprocessors_(multiprocessors), stream_(stream) {
    list_.options = options;
    list_.count = 0;
  }

  cudaError_t add(const DenseTensor& t, const DenseGroup& group) {
    const bool new_group = t.group != last_group_ || list_.count == 0;
    if (list_.count == List::kSegments || (new_group && groups_ == List::kGroups))
      SGF_CUDA_TRY(run());
    if (t.group != last_group_ || list_.count == 0) {
      last_group_ = t.group;
      list_.groups[groups_++] = group;
    }
    const int rule = sgd_rule(group.params, t.first);
    Segment& s = list_.segments[list_.count++];
    s = {t.param, t.grad, t.momentum, t.n};
    s.group = static_cast<std::int16_t>(groups_ - 1);
    s.rule = static_cast<std::int16_t>(rule);
    s.reads_momentum = kSgdRows[rule].buffer == Buffer::accumulate;
    s.writes_momentum = kSgdRows[rule].buffer != Buffer::none;
    s.packed = packed(t, kDenseTypes[types_]);
    return cudaSuccess;
  }

  cudaError_t run() {
    if (list_.count == 0) return cudaSuccess;
    const int blocks = cut(list_, tile_of(kDenseTypes[types_]), multiprocessors_);
    const void* kernel = kernel_of<List>(types_, std::make_integer_sequence<int, kDenseTypeRows>{});
    void* arguments[] = {&list_};
    SGF_CUDA_TRY(cudaLaunchKernel(kernel, blocks, kThreads, arguments, 0, stream_));
    list_.count = groups_ = 0;
    return cudaSuccess;
  }

 private:
  List list_;
  int types_, multiprocessors_;
  cudaStream_t stream_;
  int groups_ = 0, last_group_ = -1;
};

template <class List>
cudaError_t step_types(int types, const DenseTensor* tensors, std::size_t count,
                       const DenseGroup* groups, const CudaDenseOptions& options,
                       int multiprocessors, cudaStream_t stream) {
  Launches<List> launches(types, options, multiprocessors, stream);
  for (std::size_t i = 0; i < count; ++i) {
    const DenseTensor& t = tensors[i];
    if (t.n == 0 || t.types != types) continue;
    SGF_CUDA_TRY(launches.add(t, groups[t.group]));
  }
  return launches.run();
}

}  // namespace

extern "C" int subgrad_cuda_dense_step(int device, void* stream, const DenseTensor* tensors,
                                       std::size_t count, const DenseGroup* groups,
                                       const CudaDenseOptions* options) {
  const OnDevice on(device);
  SGF_CUDA_TRY(on.error());
  int processors = 0;
  SGF_CUDA_TRY(multiprocessors(device, processors));
  std::size_t tensors_of[kDenseTypeRows] = {};
  for (std::size_t i = 0; i < count; ++i) ++tensors_of[tensors[i].types];
  for (int types = 0; types < kDenseTypeRows; ++types) {
    if (tensors_of[types] == 0) continue;
    const bool few = tensors_of[types] <= SmallList::kSegments;
    const auto step = few ? step_types<SmallList> : step_types<LargeList>;
    SGF_CUDA_TRY(step(types, tensors, count, groups, *options, processors,
                      static_cast<cudaStream_t>(stream)));
  }
  return cudaSuccess;
}

}  // namespace subgrad
