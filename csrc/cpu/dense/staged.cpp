#include "cpu/dense/staged.h"

#include <algorithm>
#include <cstring>

#include "cpu/support/runs.h"

namespace subgrad {
namespace {

constexpr std::int64_t kChunk = 256;  // elements
constexpr std::int64_t kChunkBytes = kChunk * std::int64_t{sizeof(double)};

std::int64_t bytes_of(DType t) { return static_cast<std::int64_t>(size_of(t)); }

// One operand of a chunk, of the type that the kernels compute with.
class ChunkOperand {
 public:
  ChunkOperand(void* data, DType stored, const Layout* layout, std::int64_t Layout::Dim::* stride)
      : stored_(stored), computed_(stored), run_(layout, Operand(data, stride, stored)) {}

  // Kernels compute with f32 where 16 bits are stored.
  void widen() { computed_ = compute_dtype(stored_); }

  DType type() const { return computed_; }

  void* load(std::int64_t begin, std::int64_t n, bool read) {
    loaded_ = run_.load(begin, n, read);
    if (loaded_ == nullptr || computed_ == stored_) return loaded_;
    if (read) kernels().widen[static_cast<int>(stored_)](loaded_, widened_, n);
    return widened_;
  }

  void store(std::int64_t begin, std::int64_t n) {
    if (loaded_ == nullptr) return;
    if (computed_ != stored_) kernels().narrow[static_cast<int>(stored_)](widened_, loaded_, n);
    run_.store(begin, n);
  }

 private:
  DType stored_, computed_;
  Run run_;
  char* loaded_ = nullptr;
  alignas(64) char widened_[kChunkBytes];
};

}  // namespace

void StagedTensor::step(std::int64_t begin, std::int64_t end) const {
  using Dim = Layout::Dim;
  const KernelTable& table = subgrad::kernels();
  const DenseTypes& types = kDenseTypes[tensor.types];
  const DType wide = compute_dtype(types.param);
  const Layout* const layout = tensor.layout;

  ChunkOperand w(tensor.param, types.param, layout, &Dim::param_stride);
  ChunkOperand m(tensor.momentum, types.momentum, layout, &Dim::momentum_stride);
  RunAhead g(layout, Operand(const_cast<void*>(tensor.grad), &Dim::grad_stride, types.grad),
             kChunk);
  const Average* const average = tensor.average;
  if (average != nullptr) {
    w.widen();
    m.widen();
  }
  const bool limited = stage.limit != kAbsent;
  const DType gradient = limited ? wide : types.grad;
  const double scale = limited ? 1.0 : stage.scale;
  const DType momentum = tensor.momentum != nullptr ? m.type() : w.type();
  const DenseKernel kernel = kernels[dense_types_row(w.type(), gradient, momentum)];
  const ClipKernel clip =
      (wide == DType::f64 ? table.clip_to_f64 : table.clip_to_f32)[static_cast<int>(types.grad)];
  const Layout* const average_layout = average != nullptr ? average->layout : nullptr;
  ChunkOperand e(average != nullptr ? average->data : nullptr, wide, average_layout,
                 &Dim::grad_stride);
  alignas(64) char prepared[kChunkBytes];

  for (std::int64_t at = begin; at < end; at += kChunk) {
    const std::int64_t n = std::min(kChunk, end - at);
    const void* from = g.load(at, n, end);
    if (limited) {
      clip(from, prepared, n, stage);
      from = prepared;
    }
    void* const weights = w.load(at, n, true);
    kernel(weights, from, m.load(at, n, !tensor.first), n, params, scale);
    if (average != nullptr) {
      void* const averages = e.load(at, n, !average->first);
      if (average->first) {
        std::memcpy(averages, weights, static_cast<std::size_t>(n * bytes_of(wide)));
      } else {
        table.average[static_cast<int>(wide)](averages, weights, n, params.ema_decay);
      }
      e.store(at, n);
    }
    m.store(at, n);
    w.store(at, n);
  }
}

}  // namespace subgrad
