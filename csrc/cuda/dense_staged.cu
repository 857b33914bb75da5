// The dense step with stages: gradients that are scaled, bounded and limited, steps that may be
// skipped, averages. Nothing of it is known to the host when it launches.
//
// Where a step may be skipped, only the device can count how many steps a momentum or an average
// holds. A kernel of its own counts before the tensors are stepped, and keeps the number from
// before for them: no block of a step reads what another one writes.
#include <vector>

#include "cuda/dense_step.cuh"

namespace subgrad {
namespace {

template <int types, class List>
__global__ void __launch_bounds__(kDenseThreads, kMinBlocks<types, true>)
    staged_step(const __grid_constant__ List list) {
  step_chunk<types>(list);
}

template <class List, int... types>
const void* const* kernels_for(const List&, std::integer_sequence<int, types...>) {
  static const void* const kernels[] = {
      reinterpret_cast<const void*>(&staged_step<types, List>)...};
  return kernels;
}

// --- The count -----------------------------------------------------------------------------------

constexpr int kCountThreads = 256;

struct Counted {
  CudaStepCounts* counts;
  bool momentum, average;  // what the step writes
};
struct CountList {
  static constexpr int kItems = 250;

  CudaClip clip;
  std::int32_t count;
  Counted items[kItems];
};
static_assert(sizeof(CountList) <= 4096, "the limit of parameters");

__global__ void __launch_bounds__(kCountThreads)
    count_steps(const __grid_constant__ CountList list) {
  const int i = static_cast<int>(threadIdx.x);
  if (i >= list.count) return;
  const Counted& item = list.items[i];
  const std::int32_t taken = skips(list.clip) ? 0 : 1;
  CudaStepCounts counts = *item.counts;
  counts.momentum_before = counts.momentum;
  counts.average_before = counts.average;
  if (item.momentum) counts.momentum += taken;
  if (item.average) counts.average += taken;
  *item.counts = counts;
}

__global__ void set_counts(CudaStepCounts* counts, std::int32_t momentum, std::int32_t average) {
  *counts = {momentum, momentum, average, average};
}

// Tensors that share their counts are neighbours.
cudaError_t count_all(const DenseCall& call) {
  if (call.options == nullptr || call.options->counts == nullptr) return cudaSuccess;
  CountList list;
  list.clip = call.options->clip;
  list.count = 0;
  const auto run = [&] {
    return list.count > 0 ? launch(count_steps, 1, kCountThreads, call.stream, list) : cudaSuccess;
  };
  const CudaStepCounts* last = nullptr;
  for (std::size_t i = 0; i < call.count; ++i) {
    const DenseTensor& t = call.tensors[i];
    CudaStepCounts* const counts = call.options->counts[i];
    if (counts == nullptr || counts == last) continue;
    last = counts;
    const SgdParams& params = call.groups[t.group].params;
    if (list.count == CountList::kItems) {
      SGF_CUDA_TRY(run());
      list.count = 0;
    }
    list.items[list.count++] = {counts, params.momentum != 0.0, params.ema_decay != kAbsent};
  }
  return run();
}

// Which sum of squares a gradient's coefficient comes from, and whether one of those that share it
// is of f64.
class Scopes {
 public:
  Scopes(const DenseCall& call, const CudaDenseOptions& options)
      : call_(call), scope_(options.scope), groups_(options.groups), wide_groups_(options.groups) {
    for (std::size_t i = 0; i < call.count; ++i) {
      if (!is_wide(i)) continue;
      any_wide_ = true;
      if (scope_ == NormScope::group) wide_groups_[call.tensors[i].group] = true;
    }
  }

  void set(StagedSegment& s, std::size_t i) const {
    const int group = call_.tensors[i].group;
    s.sum = scope_ == NormScope::global  ? 0
            : scope_ == NormScope::group ? sum_of_group(group)
                                         : sum_of_gradient(groups_, static_cast<int>(i));
    s.wide = scope_ == NormScope::global  ? any_wide_
             : scope_ == NormScope::group ? bool{wide_groups_[group]}
                                          : is_wide(i);
  }

 private:
  bool is_wide(std::size_t i) const {
    return kDenseTypes[call_.tensors[i].types].grad == DType::f64;
  }

  const DenseCall& call_;
  NormScope scope_;
  int groups_;
  bool any_wide_ = false;
  std::vector<bool> wide_groups_;
};

}  // namespace

cudaError_t step_staged(const DenseCall& call) {
  const CudaDenseOptions options = call.options != nullptr ? *call.options : CudaDenseOptions{};
  SGF_CUDA_TRY(count_all(call));
  const Scopes scopes(call, options);
  return step_all_types<SmallDenseList<true>, LargeDenseList<true>>(
      call,
      [&](auto& list) {
        list.clip = options.clip;
        return kernels_for(list, TypeRows{});
      },
      [&](StagedSegment& s, std::size_t i, const SgdParams& params) {
        const DenseTensor& t = call.tensors[i];
        set_rules(s, params, false);
        s.first_rule = static_cast<std::int16_t>(sgd_rule(params, true));
        s.first = t.first;
        s.average = nullptr;
        if (t.average != nullptr && params.ema_decay != kAbsent) {
          s.average = t.average->data;
          s.first_average = t.average->first;
          const DenseTypes& types = kDenseTypes[t.types];
          const std::size_t bytes = lanes_of(types) * size_of(compute_dtype(types.param));
          s.packed = s.packed && aligned_to(t.average->data, std::min<std::size_t>(16, bytes));
        }
        s.counts = options.counts != nullptr ? options.counts[i] : nullptr;
        scopes.set(s, i);
      });
}

extern "C" int subgrad_cuda_set_step_counts(int device, void* stream, CudaStepCounts* counts,
                                            int momentum, int average) {
  const OnDevice on(device);
  SGF_CUDA_TRY(on.error());
  return launch(set_counts, 1, 1, static_cast<cudaStream_t>(stream), counts, momentum, average);
}

}  // namespace subgrad
