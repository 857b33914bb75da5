// Gradients measured on a device: the norm has the CPU's bits, so the additions are the
// CPU's, in its order (core/work.h): blocks of 4096 elements, in each of them 32 sums, which are
// the lanes of a warp.
//
// A warp takes a block: a load of it is one run of 32 elements, whole sectors for all types. A
// block's lanes are folded by shuffles, the blocks of a gradient added one after the other by a
// warp that reads 32 at a time, the gradients of a scope likewise. Each gradient is read once, and
// what is written besides is 8 bytes for each 4096 elements. Squares of f64 elements may leave the
// range of f64; kernels that add them anew, by a power of two, are launched where there are any,
// and end at once where none has.
#include "cuda/clip_list.cuh"

namespace subgrad {
namespace {

constexpr int kTurns = 8;  // loads of a lane that are on their way at once

// --- What is found in a block --------------------------------------------------------------------

// The 32 sums folded in halves; lane 0 has the result.
__device__ double fold_lanes(double sum) {
#pragma unroll
  for (int half = kSquareSums / 2; half > 0; half /= 2) {
    sum += __shfl_down_sync(kAllLanes, sum, half);
  }
  return sum;
}

struct Squares {
  double sum = 0.0;
  __device__ void take(double x) { sum = ::fma(x, x, sum); }
  __device__ double found() const { return fold_lanes(sum); }
};

// Of elements times 2^-exponent.
struct ScaledSquares {
  int exponent;
  double sum = 0.0;
  __device__ void take(double x) {
    x = ldexp(x, -exponent);
    sum = ::fma(x, x, sum);
  }
  __device__ double found() const { return fold_lanes(sum); }
};

// The largest magnitude, NaN above all.
struct Largest {
  std::uint64_t key = 0;
  __device__ void take(double x) { key = max(key, magnitude_bits(x)); }
  __device__ double found() const {
    std::uint64_t largest = key;
#pragma unroll
    for (int distance = 16; distance > 0; distance /= 2) {
      largest = max(largest, __shfl_down_sync(kAllLanes, largest, distance));
    }
    return __longlong_as_double(static_cast<long long>(largest));
  }
};

// `look` takes a block's elements, each lane those of its sum, in their order.
template <class T, class Look>
__device__ double look_at(const T* x, int n, Look look) {
  int i = lane_number();
  for (; i + (kTurns - 1) * kSquareSums < n; i += kTurns * kSquareSums) {
    T value[kTurns];
#pragma unroll
    for (int k = 0; k < kTurns; ++k) value[k] = x[i + k * kSquareSums];
#pragma unroll
    for (int k = 0; k < kTurns; ++k) look.take(widen<double>(value[k]));
  }
  for (; i < n; i += kSquareSums) look.take(widen<double>(x[i]));
  return look.found();
}

enum class Wanted { squares, squares_again, largest, largest_again };
template <Wanted wanted>
constexpr bool kOnlyAgain = wanted == Wanted::squares_again || wanted == Wanted::largest_again;

template <class T, Wanted wanted, class List>
__global__ void __launch_bounds__(kBlockThreads) look_at_blocks(const __grid_constant__ List list) {
  if (kOnlyAgain<wanted> && *list.scratch.again == 0) return;
  const int i = segment_of(list, static_cast<int>(blockIdx.x));
  const ClipItem& g = list.segments[i];
  const std::int64_t block =
      std::int64_t{static_cast<int>(blockIdx.x) - list.first_block[i]} * kWarps +
      static_cast<int>(threadIdx.x) / 32;
  const std::int64_t begin = block * kNormBlock;
  if (begin >= g.n) return;
  const T* const x = static_cast<const T*>(g.data) + begin;
  const int n = static_cast<int>(min(kNormBlock, g.n - begin));
  double found;
  if constexpr (wanted == Wanted::squares) {
    found = look_at(x, n, Squares{});
  } else if constexpr (wanted == Wanted::squares_again) {
    found = look_at(x, n, ScaledSquares{list.scratch.sums[g.sum].exponent});
  } else {
    found = look_at(x, n, Largest{});
  }
  if (lane_number() == 0) list.scratch.blocks[g.first + block] = found;
}

// --- What is put together ------------------------------------------------------------------------

// join(value, x[i]) for i from begin to end, one after the other, by a warp that reads 32 of them
// at a time.
template <class T, class Join>
__device__ void each_in_order(const T* x, std::int64_t begin, std::int64_t end, const Join& join) {
  for (; begin < end; begin += 32) {
    const int count = static_cast<int>(min(std::int64_t{32}, end - begin));
    T mine = {};
    if (lane_number() < count) mine = x[begin + lane_number()];
    for (int k = 0; k < count; ++k) join(mine, k);
  }
}

// The blocks of each gradient, a warp for each.
template <Wanted wanted, class List>
__global__ void __launch_bounds__(kBlockThreads) fold_blocks(const __grid_constant__ List list) {
  if (kOnlyAgain<wanted> && *list.scratch.again == 0) return;
  const int i = static_cast<int>(blockIdx.x) * kWarps + static_cast<int>(threadIdx.x) / 32;
  if (i >= list.count) return;
  const ClipItem& g = list.segments[i];
  if (kOnlyAgain<wanted> && !g.f64) return;
  constexpr bool squares = wanted == Wanted::squares || wanted == Wanted::squares_again;
  double all = 0.0;
  const std::int64_t end = g.first + norm_blocks(g.n);
  each_in_order(list.scratch.blocks, g.first, end, [&](double mine, int k) {
    const double x = __shfl_sync(kAllLanes, mine, k);
    all = squares ? all + x : larger(all, x);
  });
  if (lane_number() != 0) return;
  SquareSum& sum = list.scratch.sums[g.sum];
  if constexpr (wanted == Wanted::largest_again) {
    sum.exponent = exponent_of(all);
  } else if constexpr (wanted == Wanted::squares_again) {
    sum.value = all;
  } else {
    sum = {all, 0};
    if (squares && g.f64 && g.n > 0 && is_out_of_range(all)) atomicExch(list.scratch.again, 1);
  }
}

// Gradients that share a norm, as a run of the sums; their own sum goes to `to`.
struct ClipScope {
  std::int32_t begin, end, to;
};
struct ScopeList {
  static constexpr int kScopes = 300;

  CudaClip clip;
  SquareSum* sums;
  double* norm;  // of the scope that goes to the first of the sums; null: not wanted
  std::int32_t count;
  ClipScope scopes[kScopes];
};
static_assert(sizeof(ScopeList) <= 4096, "the limit of parameters");

__global__ void __launch_bounds__(kBlockThreads)
    add_scopes(const __grid_constant__ ScopeList list) {
  const int i = static_cast<int>(blockIdx.x) * kWarps + static_cast<int>(threadIdx.x) / 32;
  if (i >= list.count) return;
  const ClipScope& scope = list.scopes[i];
  SquareSum all;
  each_in_order(list.sums, scope.begin, scope.end, [&](const SquareSum& mine, int k) {
    all.add({__shfl_sync(kAllLanes, mine.value, k), __shfl_sync(kAllLanes, mine.exponent, k)});
  });
  if (lane_number() != 0) return;
  list.sums[scope.to] = all;
  if (scope.to == 0 && list.norm != nullptr) *list.norm = norm_of(all, unscale_of(list.clip));
}

__global__ void __launch_bounds__(32)
    add_largest(const SquareSum* sums, int begin, int end, double* norm) {
  double all = 0.0;
  each_in_order(sums, begin, end, [&](const SquareSum& mine, int k) {
    all = larger(all, __shfl_sync(kAllLanes, mine.value, k));
  });
  if (lane_number() == 0) *norm = all;
}

// --- The launchers -------------------------------------------------------------------------------

// What is wanted of all gradients: by block, then by gradient.
template <Wanted wanted>
cudaError_t find(const ClipCall& call, cudaStream_t stream) {
  const auto look = [&](auto type, DType dtype) {
    using T = decltype(type);
    const auto is_wanted = [&](const Gradient& g) { return g.dtype == dtype && g.n > 0; };
    return call.each_list(is_wanted, kWarps * kNormBlock, [&](const auto& list, int blocks) {
      using List = std::decay_t<decltype(list)>;
      return launch(look_at_blocks<T, wanted, List>, blocks, kBlockThreads, stream, list);
    });
  };
  SGF_CUDA_TRY(look(double{}, DType::f64));
  if constexpr (!kOnlyAgain<wanted>) {
    SGF_CUDA_TRY(look(float{}, DType::f32));
    SGF_CUDA_TRY(look(bf16{}, DType::bf16));
    SGF_CUDA_TRY(look(f16{}, DType::f16));
  }
  const auto all = [](const Gradient&) { return true; };
  return call.each_list(all, 0, [&](const auto& list, int) {
    using List = std::decay_t<decltype(list)>;
    const int blocks = (list.count + kWarps - 1) / kWarps;
    return launch(fold_blocks<wanted, List>, blocks, kBlockThreads, stream, list);
  });
}

cudaError_t find_squares(const ClipCall& call, cudaStream_t stream) {
  const bool may_leave = call.any(DType::f64);
  if (may_leave) SGF_CUDA_TRY(cudaMemsetAsync(call.scratch().again, 0, sizeof(int), stream));
  SGF_CUDA_TRY(find<Wanted::squares>(call, stream));
  if (!may_leave) return cudaSuccess;
  SGF_CUDA_TRY(find<Wanted::largest_again>(call, stream));
  return find<Wanted::squares_again>(call, stream);
}

cudaError_t add_all_scopes(const ClipCall& call, const int* group_of, const CudaClip& clip,
                           double* norm, cudaStream_t stream) {
  const int count = call.count(), groups = call.groups();
  ScopeList list;
  list.clip = clip;
  list.sums = call.scratch().sums;
  list.norm = norm;
  list.count = 0;
  const auto run = [&] {
    const int blocks = (list.count + kWarps - 1) / kWarps;
    SGF_CUDA_TRY(launch(add_scopes, blocks, kBlockThreads, stream, list));
    list.count = 0;
    return cudaSuccess;
  };
  list.scopes[list.count++] = {sum_of_gradient(groups, 0), sum_of_gradient(groups, count), 0};
  for (int begin = 0, group = 0; group_of != nullptr && group < groups; ++group) {
    int end = begin;
    while (end < count && group_of[end] == group) ++end;
    if (list.count == ScopeList::kScopes) SGF_CUDA_TRY(run());
    list.scopes[list.count++] = {sum_of_gradient(groups, begin), sum_of_gradient(groups, end),
                                 sum_of_group(group)};
    begin = end;
  }
  return run();
}

}  // namespace

extern "C" {

int subgrad_cuda_clip_measure(int device, void* stream, const Gradient* gradients,
                              std::size_t count, const int* group_of, int groups,
                              const CudaClip* clip, void* scratch, double* norm) {
  const OnDevice on(device);
  SGF_CUDA_TRY(on.error());
  const auto in = static_cast<cudaStream_t>(stream);
  const ClipCall call(gradients, count, groups, scratch);
  SGF_CUDA_TRY(find_squares(call, in));
  return add_all_scopes(call, group_of, *clip, norm, in);
}

int subgrad_cuda_clip_largest(int device, void* stream, const Gradient* gradients,
                              std::size_t count, void* scratch, double* norm) {
  const OnDevice on(device);
  SGF_CUDA_TRY(on.error());
  const auto in = static_cast<cudaStream_t>(stream);
  const ClipCall call(gradients, count, 0, scratch);
  SGF_CUDA_TRY(find<Wanted::largest>(call, in));
  return launch(add_largest, 1, 32, in, call.scratch().sums, sum_of_gradient(0, 0),
                sum_of_gradient(0, static_cast<int>(count)), norm);
}

}  // extern "C"

}  // namespace subgrad
