// Gradients clipped in place on a device, by a norm that lies there: where nothing is to be
// changed, nothing is read or written.
#include "cuda/clip_list.cuh"

namespace subgrad {
namespace {

struct Change {
  const double* norm;
  double max_norm;
  double limit;
  bool wide;
};

constexpr int kChangeTile = 8 * kBlockThreads;  // elements of a block of threads

template <class T, class List>
__global__ void __launch_bounds__(kBlockThreads)
    change_elements(const __grid_constant__ List list, const __grid_constant__ Change change) {
  using C = compute_t<T>;
  __shared__ GradientStage shared;
  if (threadIdx.x == 0) {
    shared.scale = 1.0;
    shared.limit = change.limit;
    if (change.norm != nullptr) {
      shared.scale = clip_coefficient(*change.norm, change.max_norm, change.wide);
    }
  }
  __syncthreads();
  const GradientStage stage = shared;
  if (stage.changes_nothing()) return;
  const Clip<C> rule(stage);
  const int block = static_cast<int>(blockIdx.x), i = segment_of(list, block);
  const ClipItem& g = list.segments[i];
  const std::int64_t begin = std::int64_t{block - list.first_block[i]} * kChangeTile;
  T* const x = static_cast<T*>(g.data) + begin;
  const int n = static_cast<int>(min(std::int64_t{kChangeTile}, g.n - begin));
  constexpr int lanes = 16 / sizeof(T);
  const bool packed = reinterpret_cast<std::uintptr_t>(x) % 16 == 0;
  const int in_packs = packed ? n / lanes * lanes : 0;
  for (int at = static_cast<int>(threadIdx.x) * lanes; at < in_packs; at += kBlockThreads * lanes) {
    Pack<T, lanes> pack = pack_at<lanes>(x + at);
#pragma unroll
    for (int k = 0; k < lanes; ++k) {
      pack.lane[k] = Narrow<T>::of(rule(widen<C>(pack.lane[k])));
    }
    pack_at<lanes>(x + at) = pack;
  }
  for (int at = in_packs + static_cast<int>(threadIdx.x); at < n; at += kBlockThreads) {
    x[at] = Narrow<T>::of(rule(widen<C>(x[at])));
  }
}

}  // namespace

extern "C" {

int subgrad_cuda_clip_bytes(const Gradient* gradients, std::size_t count, int groups,
                            std::size_t* bytes) {
  *bytes = ClipCall(gradients, count, groups, nullptr).bytes();
  return cudaSuccess;
}

int subgrad_cuda_clip_change(int device, void* stream, const Gradient* gradients, std::size_t count,
                             const double* norm, double max_norm, bool wide, double limit) {
  const OnDevice on(device);
  SGF_CUDA_TRY(on.error());
  const ClipCall call(gradients, count, 0, nullptr);
  const Change how{norm, max_norm, limit, wide};
  const auto change = [&](auto type, DType dtype) {
    using T = decltype(type);
    const auto is_wanted = [&](const Gradient& g) { return g.dtype == dtype && g.n > 0; };
    return call.each_list(is_wanted, kChangeTile, [&](const auto& list, int blocks) {
      using List = std::decay_t<decltype(list)>;
      return launch(change_elements<T, List>, blocks, kBlockThreads,
                    static_cast<cudaStream_t>(stream), list, how);
    });
  };
  SGF_CUDA_TRY(change(float{}, DType::f32));
  SGF_CUDA_TRY(change(double{}, DType::f64));
  SGF_CUDA_TRY(change(bf16{}, DType::bf16));
  return change(f16{}, DType::f16);
}

}  // extern "C"

}  // namespace subgrad
