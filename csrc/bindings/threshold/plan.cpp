#include "bindings/threshold/plan.h"

#include <algorithm>
#include <string>

#include "bindings/border/narrowed.h"
#include "bindings/cuda/backend.h"
#include "rules/table.h"

namespace subgrad {
namespace {

Dims row_major_strides(const Extents& x) {
  Dims strides(x.ndim());
  std::int64_t stride = 1;
  for (int d = x.ndim(); d-- > 0; stride *= x.shape[d]) strides.data()[d] = stride;
  return strides;
}

bool is_row_major(const Extents& x, const Layout& row_major) {
  return x.aligned() && row_major.contiguous(x.itemsize(), x.itemsize(), x.itemsize());
}

std::unique_ptr<const Layout> row_major_layout(const Extents& x) {
  const std::int64_t* strides = x.strides.data();
  auto layout =
      std::make_unique<const Layout>(x.ndim(), x.shape.data(), strides, strides, strides, true);
  return is_row_major(x, *layout) ? nullptr : std::move(layout);
}

}  // namespace

std::vector<ThresholdPlan::Operand*> ThresholdPlan::Tensor::operands() {
  std::vector<Operand*> all;
  for (Operand* x : {&param, &grad, &momentum, &residual}) {
    if (x->present()) all.push_back(x);
  }
  return all;
}

// Where all arrays are dense and in one order (whole channels-last tensors, say) that order is
// taken as it is. Else each is read in row-major order, packed where it does not lie so.
void ThresholdPlan::lay_out(Tensor& t) {
  const std::vector<Operand*> operands = t.operands();
  const Extents& param = t.param.extents;
  const bool plain = std::all_of(operands.begin(), operands.end(),
                                 [](const Operand* x) { return x->extents.row_major(); });
  if (plain || param.size == 0) return;
  const bool one_order =
      param.dense() && std::all_of(operands.begin(), operands.end(), [&](Operand* x) {
        return x->extents.aligned() && x->extents.alike(param);
      });
  if (!one_order) {
    for (Operand* x : operands) x->layout = row_major_layout(x->extents);
  } else if (row_major_layout(param) != nullptr) {
    const Dims flat = row_major_strides(param);
    const std::int64_t* strides = param.strides.data();
    t.order = std::make_unique<const Layout>(param.ndim(), param.shape.data(), strides, flat.data(),
                                             strides);
  }
}

void ThresholdPlan::require_device(Tensor& t) {
  require_cuda(t.place, t.param.where);
  for (const Operand* x : t.operands()) {
    if (x->layout != nullptr) refuse_strides(x->where, t.place.device);
  }
}

void ThresholdPlan::read_state(Tensor& t, Operand& operand, const py::object& array,
                               const Where& where) {
  const ArrayView view = view_array(array, where, Memory::any);
  require_device_of(t.param.extents, t.param.where, view, where);
  require_shape_of(t.param.extents, t.param.where, view, where);
  const DType wanted = compute_dtype(t.param.extents.dtype);
  if (view.dtype != wanted) {
    throw py::type_error(where.text() + ": expected " + name_of(wanted) + ", as " +
                         t.param.where.text() + " is " + name_of(t.param.extents.dtype) + ", got " +
                         name_of(view.dtype));
  }
  operand.where = where;
  operand.extents = Extents(view);
  require_writable(view, operand.extents, where);
  written_.add(operand.extents, operand.where);
}

void ThresholdPlan::add(const py::object& param, const py::object& grad, const py::object& residual,
                        const py::object& momentum, std::ptrdiff_t index) {
  Tensor& t = tensors_.emplace_back();
  t.param.where = {"params", index};
  const ArrayView view = view_array(param, t.param.where, Memory::any);
  t.place = Place(view);
  t.source = view.source;
  t.param.extents = Extents(view);
  require_writable(view, t.param.extents, t.param.where);
  written_.add(t.param.extents, t.param.where);

  t.grad.where = {"grads", index};
  t.grad_view = view_array(grad, t.grad.where, Memory::any);
  const bool narrow = needs_narrowing(t.grad_view, view.dtype);
  require_device_of(t.param.extents, t.param.where, t.grad_view, t.grad.where);
  require_shape_of(t.param.extents, t.param.where, t.grad_view, t.grad.where);
  if (narrow) t.grad_view = narrowed(t.grad_view, &t.param.extents);
  t.grad.extents = Extents(t.grad_view);
  t.types = dense_types_row(view.dtype, t.grad_view.dtype, compute_dtype(view.dtype));
  if (t.types < 0) {
    refuse_grad_dtype(t.param.extents, t.param.where, t.grad_view, t.grad.where);
  }
  if (!residual.is_none()) read_state(t, t.residual, residual, {"residuals", index});
  if (!momentum.is_none()) read_state(t, t.momentum, momentum, {"momentum_buffers", index});
  lay_out(t);
  if (!t.place.on_host()) require_device(t);
}

void ThresholdPlan::seal() {
  written_.seal();
  for (const Tensor& t : tensors_) written_.refuse(t.grad_view, t.grad.where, t.param.extents);
}

ThresholdTensor ThresholdPlan::tensor(std::size_t i, bool use_momentum) const {
  const Tensor& t = tensors_[i];
  ThresholdTensor s{};
  s.param = t.param.operand();
  s.grad = t.grad.operand();
  s.residual = t.residual.operand();
  if (use_momentum) s.momentum = t.momentum.operand();
  s.n = t.param.extents.size;
  s.types = t.types;
  return s;
}

}  // namespace subgrad
