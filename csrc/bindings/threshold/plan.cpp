#include "bindings/threshold/plan.h"

#include <algorithm>
#include <string>

#include "bindings/cuda/backend.h"

namespace subgrad {
namespace {

// An optional list: None, or as many entries as there are parameters.
struct OptionalList {
  ArrayList list;
  bool present;

  OptionalList(const py::object& argument, const char* name, std::size_t length)
      : present(!argument.is_none()) {
    if (!present) return;
    list = array_list(argument, name);
    require_length(list, name, length);
  }
  bool has(std::size_t i) const { return present && !list.items[i].is_none(); }
};

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

void ThresholdPlan::require_device(Tensor& t, const ArrayView& param) {
  const Tensor& first = tensors_.front();
  require_device_of(first.param.extents, first.param.where, param, t.param.where);
  if (param.device == kHost) {
    throw py::value_error(t.param.where.text() + ": expected an array on a device, got one on cpu");
  }
  require_cuda(param.device, param.api, t.param.where);
  for (const Operand* x : t.operands()) {
    if (x->layout != nullptr) refuse_strides(x->where, param.device);
  }
}

void ThresholdPlan::read_state(Tensor& t, Operand& operand, const py::object& array,
                               const Where& where) {
  const ArrayView view = view_array(array, where, memory_);
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

ThresholdPlan::ThresholdPlan(const py::object& params, const py::object& grads,
                             const py::object& residuals, const py::object& momenta, Memory memory)
    : memory_(memory) {
  const ArrayList param_list = array_list(params, "params");
  const ArrayList grad_list = array_list(grads, "grads");
  const std::size_t n = param_list.items.size();
  require_length(grad_list, "grads", n);
  const OptionalList residual_list(residuals, "residuals", n);
  const OptionalList momentum_list(momenta, "momentum_buffers", n);
  std::vector<ArrayView> grad_views;
  grad_views.reserve(n);
  for (std::size_t i = 0; i < n; ++i) {
    Tensor& t = tensors_.emplace_back();
    t.param.where = param_list.where("params", i);
    const ArrayView param = view_array(param_list.items[i], t.param.where, memory);
    t.param.extents = Extents(param);
    require_writable(param, t.param.extents, t.param.where);
    written_.add(t.param.extents, t.param.where);

    t.grad.where = grad_list.where("grads", i);
    grad_views.push_back(view_array(grad_list.items[i], t.grad.where, memory));
    const ArrayView& grad = grad_views.back();
    require_device_of(t.param.extents, t.param.where, grad, t.grad.where);
    require_shape_of(t.param.extents, t.param.where, grad, t.grad.where);
    t.grad.extents = Extents(grad);
    t.types_row = dense_types_row(param.dtype, grad.dtype, compute_dtype(param.dtype));
    if (t.types_row < 0) refuse_grad_dtype(t.param.extents, t.param.where, grad, t.grad.where);

    if (residual_list.has(i)) {
      read_state(t, t.residual, residual_list.list.items[i],
                 residual_list.list.where("residuals", i));
    }
    if (momentum_list.has(i)) {
      read_state(t, t.momentum, momentum_list.list.items[i],
                 momentum_list.list.where("momentum_buffers", i));
    }
    lay_out(t);
    if (memory == Memory::any) require_device(t, param);
  }
  written_.seal();
  for (std::size_t i = 0; i < n; ++i) {
    written_.refuse(grad_views[i], tensors_[i].grad.where, tensors_[i].param.extents);
  }
}

ThresholdSegment ThresholdPlan::segment(std::size_t i, bool use_momentum) const {
  const Tensor& t = tensors_[i];
  ThresholdSegment s{};
  s.param = t.param.operand();
  s.grad = t.grad.operand();
  s.residual = t.residual.operand();
  if (use_momentum) s.momentum = t.momentum.operand();
  s.n = t.param.extents.size;
  s.types_row = t.types_row;
  return s;
}

}  // namespace subgrad
