// The dense step as gradients come, and the launcher of every dense step.
#include "cuda/dense_step.cuh"

namespace subgrad {
namespace {

template <int types, class List>
__global__ void __launch_bounds__(kDenseThreads, kMinBlocks<types, false>)
    dense_step(const __grid_constant__ List list) {
  step_chunk<types>(list);
}

template <class List, int... types>
const void* const* kernels_for(const List&, std::integer_sequence<int, types...>) {
  static const void* const kernels[] = {reinterpret_cast<const void*>(&dense_step<types, List>)...};
  return kernels;
}

}  // namespace

cudaError_t step_plain(const DenseCall& call) {
  return step_all_types<SmallDenseList<false>, LargeDenseList<false>>(
      call, [](const auto& list) { return kernels_for(list, TypeRows{}); },
      [&](DenseSegment& s, std::size_t i, const SgdParams& params) {
        set_rules(s, params, call.tensors[i].first);
      });
}

extern "C" int subgrad_cuda_dense_step(int device, void* stream, const DenseTensor* tensors,
                                       std::size_t count, const DenseGroup* groups,
                                       const CudaDenseOptions* options) {
  const OnDevice on(device);
  SGF_CUDA_TRY(on.error());
  DenseCall call{tensors, count, groups, options, 0, static_cast<cudaStream_t>(stream)};
  SGF_CUDA_TRY(multiprocessors(device, call.multiprocessors));
  const bool averages = std::any_of(tensors, tensors + count, [&](const DenseTensor& t) {
    return t.average != nullptr && groups[t.group].params.ema_decay != kAbsent;
  });
  return options == nullptr && !averages ? step_plain(call) : step_staged(call);
}

}  // namespace subgrad
