#include "cpu/chosen/chosen.h"

#include <algorithm>
#include <utility>

#include "cpu/chosen/places.h"
#include "cpu/kernel_table.h"
#include "cpu/support/share.h"

namespace subgrad {
namespace {

constexpr std::int64_t kChunk = kChosenChunk;

std::int64_t bytes_of(DType type) { return static_cast<std::int64_t>(size_of(type)); }

// What an element costs: a line of the gradient, one of the parameter there and back, and its
// momentum.
Load load_of(const ChosenTensor& t) { return {t.indices.n, 3 * kLineBytes + 16, kChunk}; }

// A tensor with the kernel that steps it.
class ChosenStep {
 public:
  ChosenStep(const ChosenTensor& tensor, const SgdParams& params, const GradientStage& stage)
      : t_(tensor), types_(kDenseTypes[tensor.types]), params_(params), stage_(stage) {
    const KernelTable& table = kernels();
    const DType wide = compute_dtype(types_.param);
    limited_ = stage.limit != kAbsent;
    const DType momentum = t_.momentum != nullptr ? types_.momentum : types_.param;
    const int row = dense_types_row(types_.param, limited_ ? wide : types_.grad, momentum);
    kernel_ = table.dense[sgd_rule(params, t_.first)][row];
    clip_ =
        (wide == DType::f64 ? table.clip_to_f64 : table.clip_to_f32)[static_cast<int>(types_.grad)];
  }

  // The chosen elements [begin, end). While a chunk is gathered, the lines of the next one are
  // asked for.
  void step(std::int64_t begin, std::int64_t end) const {
    Places places[2];
    Places *now = &places[0], *next = &places[1];
    find(begin, end, *now);
    for (std::int64_t at = begin; at < end; at += kChunk) {
      find(at + kChunk, end, *next);
      step_chunk(at, *now, *next);
      std::swap(now, next);
    }
  }

 private:
  void find(std::int64_t begin, std::int64_t end, Places& places) const {
    places.find(t_.layout, t_.indices, begin, end, bytes_of(types_.param), bytes_of(types_.grad));
  }

  void step_chunk(std::int64_t at, const Places& places, const Places& next) const {
    alignas(64) char weights[kChunk * sizeof(double)];
    alignas(64) char gradients[kChunk * sizeof(double)];
    alignas(64) char clipped[kChunk * sizeof(double)];
    const std::int64_t n = places.n;
    char* const param = static_cast<char*>(t_.param);
    const char* const grad = static_cast<const char*>(t_.grad);
    gather_elements(grad, places.grad, n, types_.grad, gradients, {param, grad, next});
    gather_elements(param, places.param, n, types_.param, weights);
    if (limited_) clip_(gradients, clipped, n, stage_);
    char* momentum = static_cast<char*>(t_.momentum);
    if (momentum != nullptr) momentum += at * bytes_of(types_.momentum);
    kernel_(weights, limited_ ? clipped : gradients, momentum, n, params_,
            limited_ ? 1.0 : stage_.scale);
    scatter_elements(param, places.param, n, types_.param, weights);
  }

  const ChosenTensor& t_;
  const DenseTypes& types_;
  const SgdParams& params_;
  GradientStage stage_;
  bool limited_;
  DenseKernel kernel_;
  ClipKernel clip_;
};

}  // namespace

void run_chosen(const std::vector<ChosenTensor>& tensors, const std::vector<DenseGroup>& groups,
                const Stages& stages) {
  share_work(
      tensors.size(), [&](std::size_t i) { return load_of(tensors[i]); },
      [&](std::size_t i, std::int64_t begin, std::int64_t end) {
        const SgdParams& params = groups[static_cast<std::size_t>(tensors[i].group)].params;
        const GradientStage stage = stages.empty() ? GradientStage() : stages[i];
        ChosenStep(tensors[i], params, stage).step(begin, end);
      });
}

void swap_chosen(const std::vector<ChosenValues>& all) {
  share_work(
      all.size(),
      [&](std::size_t i) { return Load{all[i].indices.n, 2 * kLineBytes + 16, kChunk}; },
      [&](std::size_t i, std::int64_t begin, std::int64_t end) {
        const ChosenValues& v = all[i];
        const std::int64_t size = bytes_of(v.dtype);
        Places places;
        alignas(64) char before[kChunk * sizeof(double)];
        for (; begin < end; begin += kChunk) {
          places.find(v.layout, v.indices, begin, end, size, size);
          const std::int64_t n = places.n;
          gather_elements(v.tensor, places.param, n, v.dtype, before);
          char* const values = v.values + begin * size;
          scatter_elements(v.tensor, places.param, n, v.dtype, values);
          std::memcpy(values, before, static_cast<std::size_t>(n * size));
        }
      });
}

}  // namespace subgrad
