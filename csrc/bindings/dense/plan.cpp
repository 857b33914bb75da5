#include "bindings/dense/plan.h"

#include <string>

#include "bindings/border/gil.h"
#include "core/macros.h"
#include "rules/table.h"

namespace subgrad {
namespace {

// A step on fewer elements does not look at its memory's pages.
constexpr std::int64_t kPagedElements = PagesInUse::kLeast / 8;

}  // namespace

void DensePlan::add(const ArrayView& param, const Where& where, int group) {
  Tensor t;
  t.param = Extents(param);
  t.group = group;
  require_writable(param, t.param, where);
  if (param.device != kHost) {
    cuda_.require(param, where);
    if (!t.param.dense()) refuse_strides(where, param.device);
  }
  tensors_.push_back(std::move(t));
  details_.emplace_back();
  details_.back().param_where = where;
  tensors_.back().one_run = is_one_run(size() - 1);
}

void DensePlan::add_momentum(const ArrayView& momentum, const Where& where) {
  Tensor& t = tensors_.back();
  Details& details = details_.back();
  require_device_of(t.param, details.param_where, momentum, where);
  require_shape_of(t.param, details.param_where, momentum, where);
  if (momentum.dtype != t.param.dtype && momentum.dtype != DType::f32) {
    throw py::type_error(where.text() + ": expected " + name_of(t.param.dtype) + " like " +
                         details.param_where.text() + " or float32, got " +
                         name_of(momentum.dtype));
  }
  details.momentum = Extents(momentum);
  details.momentum_where = where;
  require_writable(momentum, details.momentum, where);
  t.has_momentum = true;
  t.momentum = momentum.data;
  t.momentum_dtype = momentum.dtype;
  t.one_run = is_one_run(size() - 1);
}

void DensePlan::add_average(const ArrayView& average, const Where& where, bool first) {
  Tensor& t = tensors_.back();
  Details& details = details_.back();
  require_device_of(t.param, details.param_where, average, where);
  require_shape_of(t.param, details.param_where, average, where);
  const DType wanted = compute_dtype(t.param.dtype);
  if (average.dtype != wanted) {
    throw py::type_error(where.text() + ": expected " + name_of(wanted) + " for " +
                         details.param_where.text() + ", got " + name_of(average.dtype));
  }
  details.average = Extents(average);
  details.average_where = where;
  const Extents& e = details.average;
  require_writable(average, e, where);
  // Its elements in the order of the parameter's, whichever way both lie.
  const bool alike = t.param.dense() && e.aligned() && e.alike(t.param);
  if (!alike) {
    if (average.device != kHost) refuse_strides(where, average.device);
    details.average_layout = std::make_unique<const Layout>(
        e.ndim(), e.shape.data(), t.param.strides.data(), e.strides.data(), e.strides.data());
  }
  averages_.resize(tensors_.size());
  averages_.back() = {e.data, details.average_layout.get(), first};
}

void DensePlan::add_counts(CudaStepCounts* counts) { details_.back().counts = counts; }

void DensePlan::seal() {
  huge_pages();  // throws for a setting that is none, before anything is written
  if (!averages_.empty()) averages_.resize(tensors_.size());
  written_.clear();
  for (std::size_t i = 0; i < tensors_.size(); ++i) {
    written_.add(tensors_[i].param, details_[i].param_where);
    if (has_momentum(i)) written_.add(details_[i].momentum, details_[i].momentum_where);
    if (details_[i].average.data != nullptr) {
      written_.add(details_[i].average, details_[i].average_where);
    }
  }
  written_.seal();
  work_.resize(tensors_.size());
  alike_.assign(tensors_.size(), 0);
}

// Of what lies on the host, all that a step writes.
std::vector<ByteRun> DensePlan::memory() const {
  std::vector<ByteRun> runs;
  const auto add = [&](const Extents& e) {
    if (e.data == nullptr || e.size == 0 || e.device != kHost) return;
    const Range range = e.byte_range();
    runs.push_back({range.begin, range.end - range.begin});
  };
  for (std::size_t i = 0; i < size(); ++i) {
    add(tensors_[i].param);
    add(details_[i].momentum);
    add(details_[i].average);
  }
  return runs;
}

bool DensePlan::is_one_run(std::size_t i) const {
  const Extents &param = tensors_[i].param, &momentum = details_[i].momentum;
  return param.dense() && param.aligned() &&
         (!has_momentum(i) || (momentum.aligned() && momentum.alike(param)));
}

void DensePlan::move_param(std::size_t i, char* data) {
  tensors_[i].param.data = data;
  tensors_[i].one_run = is_one_run(i);
  alike_[i] = 0;
}

void DensePlan::move_momentum(std::size_t i, char* data) {
  details_[i].momentum.data = tensors_[i].momentum = data;
  tensors_[i].one_run = is_one_run(i);
  alike_[i] = 0;
}

void DensePlan::reseal() {
  written_.reseal();
  pages_ = PagesInUse();
  steps_ = 0;
}

// Whether the gradient's elements lie in the order of the parameter's, which is one run of memory.
bool DensePlan::lies_alike(const Tensor& t, const ArrayView& grad, bool same_layout) const {
  if (!t.one_run || reinterpret_cast<std::uintptr_t>(grad.data) % size_of(grad.dtype) != 0) {
    return false;
  }
  if (grad.dtype == t.param.dtype) return same_layout;
  for (int d = 0; d < grad.ndim; ++d) {
    if (grad.strides[d] * grad.stride_unit * t.param.itemsize() !=
        t.param.strides[d] * grad.itemsize()) {
      return false;
    }
  }
  return true;
}

// Null where all operands turn out to be one run after all (their strides differ in dimensions of
// size one only).
const Layout* DensePlan::layout_for(std::size_t i, const ArrayView& view) {
  const Tensor& t = tensors_[i];
  Details& details = details_[i];
  const Extents& momentum = has_momentum(i) ? details.momentum : t.param;
  if (details.layout == nullptr || !details.last_grad.same_layout(view) ||
      details.last_grad.dtype != view.dtype) {
    details.last_grad = Extents(view);
    details.layout =
        std::make_unique<const Layout>(view.ndim, view.shape, t.param.strides.data(),
                                       details.last_grad.strides.data(), momentum.strides.data());
  }
  const bool aligned = t.param.aligned() && Extents(view).aligned() && momentum.aligned();
  const bool one_run =
      details.layout->contiguous(t.param.itemsize(), view.itemsize(), momentum.itemsize());
  return aligned && one_run ? nullptr : details.layout.get();
}

bool DensePlan::contiguous_with(std::size_t i, const ArrayView& grad, bool same_layout) {
  return lies_alike(tensors_[i], grad, same_layout) || layout_for(i, grad) == nullptr;
}

void DensePlan::bind(std::size_t i, const ArrayView& grad, bool same_layout,
                     const Where& grad_where, bool use_momentum, bool first) {
  Tensor& t = tensors_[i];
  SGF_PREFETCH(t.param.data);
  SGF_PREFETCH(grad.data);
  SGF_PREFETCH(t.momentum);
  const DType momentum_dtype = use_momentum ? t.momentum_dtype : t.param.dtype;
  const int types = dense_types_row(t.param.dtype, grad.dtype, momentum_dtype);
  if (types < 0) {
    refuse_grad_dtype(t.param, details_[i].param_where, grad, grad_where);
  }
  require_device_of(t.param, details_[i].param_where, grad, grad_where);
  if (!same_layout) require_shape_of(t.param, details_[i].param_where, grad, grad_where);
  if (t.param.size == 0 && details_[i].counts == nullptr) {  // a step is counted all the same
    if (!on_device(i)) empty_.emplace_back(i, grad.dtype);
    return;
  }

  const bool alike = lies_alike(t, grad, same_layout);
  if (written_.meets(byte_range(grad))) written_.refuse(grad, grad_where, t.param);
  if (on_device(i)) {
    if (!alike && layout_for(i, grad) != nullptr) refuse_strides(grad_where, t.param.device);
    const bool averaged = !averages_.empty() && averages_[i].data != nullptr;
    cuda_.add(t.param.device,
              {t.param.data, grad.data, use_momentum ? t.momentum : nullptr, t.param.size, nullptr,
               t.group, types, first, averaged ? &averages_[i] : nullptr},
              details_[i].counts);
    on_devices_.push_back(i);
    return;
  }
  work_[i] = {t.param.data,
              grad.data,
              use_momentum ? t.momentum : nullptr,
              t.param.size,
              alike ? nullptr : layout_for(i, grad),
              t.group,
              types,
              first};
  alike_[i] = 0;
  bound_ += t.param.size;
}

void DensePlan::prepare_alike(std::size_t i) {
  const Tensor& t = tensors_[i];
  const DType momentum_dtype = t.has_momentum ? t.momentum_dtype : t.param.dtype;
  work_[i] = {t.param.data,
              nullptr,
              t.momentum,
              t.param.size,
              nullptr,
              t.group,
              dense_types_row(t.param.dtype, t.param.dtype, momentum_dtype),
              false};
  alike_[i] = 1;
}

bool DensePlan::bind_alike(std::size_t i, const char* grad, bool use_momentum, bool first) {
  if (!alike_[i]) prepare_alike(i);
  DenseTensor& s = work_[i];
  if (use_momentum != (s.momentum != nullptr)) return false;
  SGF_PREFETCH(s.param);
  SGF_PREFETCH(grad);
  SGF_PREFETCH(s.momentum);
  const std::size_t size = size_of(kDenseTypes[s.types].grad);
  if (reinterpret_cast<std::uintptr_t>(grad) % size != 0) return false;
  if (written_.meets({grad, grad + static_cast<std::size_t>(s.n) * size})) return false;
  s.grad = grad;
  s.first = first;
  bound_ += s.n;
  return true;
}

void DensePlan::begin() {
  for (DenseTensor& s : work_) s.grad = nullptr;
  empty_.clear();
  bound_ = 0;
  if (++steps_ == 3) written_.index();  // a plan that lives, and whose memory stays
  cuda_.begin();
  on_devices_.clear();
}

// A group without a decay keeps no average, whatever its tensors have.
void DensePlan::bind_averages(const std::vector<DenseGroup>& groups) {
  for (std::size_t i = 0; i < averages_.size(); ++i) {
    const SgdParams& params = groups[static_cast<std::size_t>(tensors_[i].group)].params;
    const bool kept = params.ema_decay != kAbsent && averages_[i].data != nullptr;
    work_[i].average = kept ? &averages_[i] : nullptr;
  }
}

void DensePlan::run(const std::vector<DenseGroup>& groups, const Clipping& clipping) {
  bind_averages(groups);
  if (cuda_.any()) cuda_.run(groups);  // first: it can fail, and then runs beside the CPU
  const bool plain = averages_.empty() && clipping.stages.empty();
  const auto step = [&] {
    if (plain) return run_dense(work_, groups);
    Stages stages = clipping.stages;
    stages.resize(work_.size());
    run_staged(work_, groups, stages);
  };
  without_gil(bound_, kStepElements, [&] {
    if (bound_ < kPagedElements) return step();
    pages_.timed(step, [&] { return memory(); });
  });
  for (std::size_t i = 0; i < averages_.size(); ++i) {
    if (work_[i].grad != nullptr && work_[i].average != nullptr) averages_[i].first = false;
  }
  for (const std::size_t i : on_devices_) {
    const SgdParams& params = groups[static_cast<std::size_t>(tensors_[i].group)].params;
    if (!averages_.empty() && params.ema_decay != kAbsent) averages_[i].first = false;
  }
}

}  // namespace subgrad
