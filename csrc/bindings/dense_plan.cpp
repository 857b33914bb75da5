#include "bindings/dense_plan.h"

#include <algorithm>
#include <string>

#include "core/macros.h"

namespace subgrad {
namespace {

// Below this many elements a step is over before another thread could have taken the GIL.
constexpr std::int64_t kReleaseElements = 8 << 10;

void require_writable(const ArrayView& view, const Extents& extents, const Where& where) {
  if (!view.writable) throw py::value_error(where.text() + ": is read-only");
  if (extents.may_overlap_itself()) {
    throw Overlap(where.text() + ": its elements share memory (an expanded or broadcast view)");
  }
}

void require_shape_of(const Extents& param, const Where& param_where, const ArrayView& view,
                      const Where& where) {
  if (param.same_shape(view)) return;
  throw py::value_error(where.text() + ": expected shape " +
                        shape_text(param.ndim(), param.shape.data()) + " like " +
                        param_where.text() + ", got " + view.describe());
}

void require_device_of(const Extents& param, const Where& param_where, const ArrayView& view,
                       const Where& where) {
  if (param.device == view.device) return;
  throw py::value_error(where.text() + ": expected memory on " + device_text(param.device) +
                        " like " + param_where.text() + ", got " + device_text(view.device));
}

// Kernels on a GPU know no strides.
[[noreturn]] void refuse_strides(const Where& where, int device) {
  throw py::value_error(where.text() + ": on " + device_text(device) +
                        " an array must be contiguous in its parameter's order");
}

}  // namespace

void DensePlan::add(const ArrayView& param, const Where& where, int row) {
  Tensor t;
  t.param = Extents(param);
  t.row = row;
  require_writable(param, t.param, where);
  if (param.device != kHost) {
    cuda_.require(param, where);
    if (!t.param.dense()) refuse_strides(where, param.device);
  }
  t.one_run = t.param.dense() && t.param.aligned();
  tensors_.push_back(std::move(t));
  details_.emplace_back();
  details_.back().param_where = where;
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
  t.one_run = t.one_run && details.momentum.aligned() && details.momentum.alike(t.param);
}

const Extents& DensePlan::extents(const Written& w) const {
  return w.is_momentum ? details_[w.tensor].momentum : tensors_[w.tensor].param;
}

const Where& DensePlan::where(const Written& w) const {
  const Details& details = details_[w.tensor];
  return w.is_momentum ? details.momentum_where : details.param_where;
}

void DensePlan::seal() {
  written_.clear();
  for (std::size_t i = 0; i < tensors_.size(); ++i) {
    if (tensors_[i].param.size == 0) continue;
    for (const bool is_momentum : {false, true}) {
      if (is_momentum && !has_momentum(i)) continue;
      Written w{nullptr, nullptr, i, is_momentum};
      const Range r = extents(w).byte_range();
      w.begin = r.begin;
      w.end = r.end;
      written_.push_back(w);
    }
  }
  std::sort(written_.begin(), written_.end(),
            [](const Written& a, const Written& b) { return a.begin < b.begin; });
  begins_.clear();
  reaches_.clear();
  for (const Written& w : written_) {
    begins_.push_back(w.begin);
    reaches_.push_back(reaches_.empty() ? w.end : std::max(reaches_.back(), w.end));
  }
  for (std::size_t i = 0; i < written_.size(); ++i) {
    for (std::size_t j = i + 1; j < written_.size() && written_[j].begin < written_[i].end; ++j) {
      if (extents(written_[i]).shares_memory(extents(written_[j]))) {
        throw Overlap(where(written_[j]).text() + ": shares memory with " +
                      where(written_[i]).text());
      }
    }
  }
}

// A gradient may be the very memory of its own parameter (each element is read before it is
// written); any other meeting with written memory would make the result depend on the order of
// work.
void DensePlan::refuse_grad_overlap(std::size_t i, const ArrayView& view,
                                    const Where& grad_where) const {
  const Range r = byte_range(view);
  auto k = static_cast<std::size_t>(std::lower_bound(begins_.begin(), begins_.end(), r.end) -
                                    begins_.begin());
  while (k-- > 0 && reaches_[k] > r.begin) {
    const Written& w = written_[k];
    if (w.end <= r.begin) continue;
    const Extents grad(view);
    const bool own = w.tensor == i && !w.is_momentum && grad.same_memory(extents(w));
    if (!own && grad.shares_memory(extents(w))) {
      throw Overlap(grad_where.text() + ": shares memory with " + where(w).text());
    }
  }
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
  const int types_row = dense_types_row(t.param.dtype, grad.dtype, momentum_dtype);
  if (types_row < 0) {
    throw py::type_error(grad_where.text() + ": expected " + name_of(t.param.dtype) + " like " +
                         details_[i].param_where.text() +
                         ", or float32, bfloat16 or float16, got " + name_of(grad.dtype));
  }
  require_device_of(t.param, details_[i].param_where, grad, grad_where);
  if (!same_layout) require_shape_of(t.param, details_[i].param_where, grad, grad_where);
  if (t.param.size == 0) return;

  const bool alike = lies_alike(t, grad, same_layout);
  if (!alike || grad.data != t.checked_grad || grad.dtype != t.checked_dtype) {
    refuse_grad_overlap(i, grad, grad_where);
    t.checked_grad = alike ? grad.data : nullptr;
    t.checked_dtype = grad.dtype;
  }
  if (on_device(i)) {
    if (!alike && layout_for(i, grad) != nullptr) refuse_strides(grad_where, t.param.device);
    cuda_.add(t.param.device, {t.param.data, grad.data, use_momentum ? t.momentum : nullptr,
                               t.param.size, t.row, types_row, first});
    return;
  }
  segments_.push_back({t.param.data, grad.data, use_momentum ? t.momentum : nullptr, t.param.size,
                       alike ? nullptr : layout_for(i, grad), t.row, types_row, first});
}

void DensePlan::run(const std::vector<SgdParams>& rows, const std::vector<const float*>& lr) {
  if (cuda_.any()) cuda_.run(rows, lr);  // first: it can fail, and then runs beside the CPU
  std::int64_t elements = 0;
  for (const DenseSegment& s : segments_) elements += s.n;
  if (elements < kReleaseElements) {
    run_dense(segments_, rows);
  } else {
    py::gil_scoped_release release;
    run_dense(segments_, rows);
  }
}

}  // namespace subgrad
