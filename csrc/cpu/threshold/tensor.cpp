#include "cpu/threshold/tensor.h"

#include <algorithm>
#include <cstring>

#include "cpu/kernel_table.h"
#include "cpu/support/layout.h"
#include "rules/threshold.h"

namespace subgrad {
namespace {

// An operand's elements [begin, begin + n): where they are, or a packed copy in `buffer`.
char* open(const ThresholdOperand& operand, DType type, std::int64_t begin, std::int64_t n,
           char* buffer) {
  auto* data = static_cast<char*>(operand.data);
  if (data == nullptr) return nullptr;
  if (operand.layout == nullptr) return data + begin * static_cast<std::int64_t>(size_of(type));
  pack(*operand.layout, Operand(data, &Layout::Dim::param_stride, type), begin, n, buffer);
  return buffer;
}

// Puts a packed copy back.
void close(const ThresholdOperand& operand, DType type, std::int64_t begin, std::int64_t n,
           const char* opened) {
  if (operand.data == nullptr || operand.layout == nullptr) return;
  const Operand to(operand.data, &Layout::Dim::param_stride, type);
  unpack(*operand.layout, to, begin, n, opened);
}

// A residual that holds nothing: rules/threshold.h on the sign.
void clear(char* residual, DType type, std::int64_t n) {
  if (type == DType::f64) {
    std::fill_n(reinterpret_cast<double*>(residual), n, -0.0);
  } else {
    std::fill_n(reinterpret_cast<float*>(residual), n, -0.0f);
  }
}

}  // namespace

ChunkedTensor::ChunkedTensor(const ThresholdTensor& tensor, const ThresholdGroup& p,
                             const GradientStage& stage)
    : s_(tensor),
      param_type_(kDenseTypes[tensor.types].param),
      grad_type_(kDenseTypes[tensor.types].grad),
      type_(compute_dtype(param_type_)),
      stage_(stage) {
  const KernelTable& table = kernels();
  const ThresholdParts parts = threshold_parts(p.params, p.momentum_correction, p.momentum_masking);
  direction_ = parts.direction;
  application_ = parts.application;
  masks_momentum_ = parts.masks_momentum;
  if (parts.releases) {
    const ReleaseKernels& release = table.release[int(param_type_)];
    const SgdRow& rule = kSgdRows[sgd_rule(application_, s_.first)];
    release_ = rule.decay == Decay::none ? release.plain : release.decaying;
  } else {
    take_ = table.take[int(type_)];
    step_ =
        table.dense[sgd_rule(application_, s_.first)][dense_types_row(param_type_, type_, type_)];
  }
  const int direction = sgd_rule(direction_, s_.first);
  reads_param_ = kSgdRows[direction].decay != Decay::none;
  int types = s_.types;
  if (!stage_.changes_nothing()) {
    const auto& clip = type_ == DType::f64 ? table.clip_to_f64 : table.clip_to_f32;
    clip_ = clip[static_cast<int>(grad_type_)];
    types = dense_types_row(param_type_, type_, type_);
  }
  accumulate_ = table.accumulate[direction][types];
}

std::int64_t ChunkedTensor::element_bytes() const {
  const std::size_t state = (s_.momentum.data != nullptr) + (s_.residual.data != nullptr);
  return static_cast<std::int64_t>(2 * size_of(param_type_) + size_of(grad_type_) +
                                   2 * state * size_of(type_));
}

void ChunkedTensor::reserve_residual() {
  if (s_.residual.data != nullptr && s_.residual.layout == nullptr) return;
  scratch_ = large_array<char>(static_cast<std::size_t>(s_.n) * size_of(type_));
}

char* ChunkedTensor::held(std::int64_t begin) const {
  char* data = scratch_ != nullptr             ? scratch_.get()
               : s_.residual.layout == nullptr ? static_cast<char*>(s_.residual.data)
                                               : nullptr;
  return data == nullptr ? nullptr : data + begin * static_cast<std::int64_t>(size_of(type_));
}

const char* ChunkedTensor::staged(const char* grad, std::int64_t n,
                                  ThresholdBuffers& buffers) const {
  if (clip_ == nullptr) return grad;
  clip_(grad, buffers.staged, n, stage_);
  return buffers.staged;
}

char* ChunkedTensor::accumulate(std::int64_t begin, std::int64_t n,
                                ThresholdBuffers& buffers) const {
  char *w = nullptr, *m = nullptr;
  if (reads_param_) w = open(s_.param, param_type_, begin, n, buffers.param);
  if (uses_momentum()) m = open(s_.momentum, type_, begin, n, buffers.momentum);
  char* const g = open(s_.grad, grad_type_, begin, n, buffers.grad);
  char* v = held(begin);
  if (v == nullptr) v = buffers.residual;
  if (s_.fresh || s_.residual.data == nullptr) {
    clear(v, type_, n);
  } else if (s_.residual.layout != nullptr) {
    open(s_.residual, type_, begin, n, v);
  }
  accumulate_(w, staged(g, n, buffers), m, v, n, direction_);
  if (uses_momentum()) close(s_.momentum, type_, begin, n, m);
  return v;
}

std::int64_t ChunkedTensor::release(std::int64_t begin, std::int64_t n, std::uint64_t cut, char* v,
                                    ThresholdBuffers& buffers, const KeptLanes& to) const {
  char *w = open(s_.param, param_type_, begin, n, buffers.param), *m = nullptr;
  const bool writes_momentum = release_ == nullptr || masks_momentum_;
  if (writes_momentum) m = open(s_.momentum, type_, begin, n, buffers.momentum);
  std::int64_t kept;
  if (release_ != nullptr) {
    kept = release_(w, m, v, n, application_, cut, to);
  } else {
    kept = take_(v, buffers.grad, n, cut, to);
    step_(w, buffers.grad, m, n, application_, 1.0);
  }
  if (writes_momentum) close(s_.momentum, type_, begin, n, m);
  close(s_.param, param_type_, begin, n, w);
  close(s_.residual, type_, begin, n, v);
  return kept;
}

void ChunkedTensor::preview(const Line* lines, std::int64_t count, void* to) const {
  ThresholdBuffers buffers;
  const auto gather = [&](const ThresholdOperand& operand, DType type, char* packed) {
    if (operand.data == nullptr) return;
    char line[kThresholdLine * 8];
    std::int64_t done = 0;
    for (std::int64_t i = 0; i < count; ++i) {
      const char* from = open(operand, type, lines[i].begin, lines[i].n, line);
      std::memcpy(packed + done * static_cast<std::int64_t>(size_of(type)), from,
                  static_cast<std::size_t>(lines[i].n) * size_of(type));
      done += lines[i].n;
    }
  };
  std::int64_t n = 0;
  for (std::int64_t i = 0; i < count; ++i) n += lines[i].n;
  auto* v = static_cast<char*>(to);
  clear(v, type_, n);
  if (!s_.fresh) gather(s_.residual, type_, v);
  if (reads_param_) gather(s_.param, param_type_, buffers.param);
  if (uses_momentum()) gather(s_.momentum, type_, buffers.momentum);
  gather(s_.grad, grad_type_, buffers.grad);
  accumulate_(buffers.param, staged(buffers.grad, n, buffers), buffers.momentum, v, n, direction_);
}

}  // namespace subgrad
