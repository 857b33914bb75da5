#include "bindings/chosen/call.h"

#include <string>
#include <utility>

#include "bindings/border/gil.h"
#include "bindings/border/narrowed.h"
#include "rules/table.h"

namespace subgrad {
namespace {

// Throws unless an array has one element for each one that is chosen, one behind the other.
void require_run(const ArrayView& view, const Where& where, std::int64_t n, const char* what) {
  if (view.ndim != 1 || view.shape[0] != n) {
    throw py::value_error(where.text() + ": expected shape (" + std::to_string(n) + ",), " + what +
                          ", got " + view.describe());
  }
  if (n > 0 && !Extents(view).row_major()) {
    throw py::value_error(where.text() + ": expected contiguous memory");
  }
}

// A view that lasts, whatever becomes of the object.
ArrayView view_of(const Extents& array) {
  ArrayView view;
  view.data = array.data;
  view.device = array.device;
  view.dtype = array.dtype;
  view.ndim = array.ndim();
  view.shape = array.shape.data();
  view.strides = array.strides.data();
  return view;
}

}  // namespace

void ChosenCall::hold(const py::object& array, const ArrayView& view, bool written) {
  held_.append(array);
  if (written && is_torch(view.source)) versioned_.append(array);
}

void ChosenCall::add_tensor(const py::object& param, const py::object& grad,
                            const py::object& indices, std::ptrdiff_t index) {
  Tensor& t = tensors_.emplace_back();
  t.param_where = {"params", index};
  t.grad_where = {"grads", index};
  t.momentum_where = {"momentum_buffers", index};
  const ArrayView view = view_array(param, t.param_where);
  t.param = Extents(view);
  require_writable(view, t.param, t.param_where);
  written_.add(t.param, t.param_where);
  hold(param, view, true);

  const ArrayView given = view_array(grad, t.grad_where);
  require_shape_of(t.param, t.param_where, given, t.grad_where);
  const ArrayView taken = needs_narrowing(given, t.param.dtype) ? narrowed(given) : given;
  t.grad = Extents(taken);
  t.loan = taken.owned;
  hold(grad, given, false);
  t.indices = indices.cast<const CheckedIndices*>();
  held_.append(indices);
  if (t.indices->elements() != t.param.size) {
    throw py::value_error(Where{"indices", index}.text() + ": are of " +
                          std::to_string(t.indices->elements()) + " elements, and " +
                          t.param_where.text() + " has " + std::to_string(t.param.size));
  }
  t.layout = chosen_layout(t.param, t.grad);
}

void ChosenCall::add_momentum(const py::object& array) {
  Tensor& t = tensors_.back();
  const ArrayView view = view_array(array, t.momentum_where);
  require_run(view, t.momentum_where, t.indices->size(), "one number for each index");
  if (view.dtype != t.param.dtype && view.dtype != DType::f32) {
    throw py::type_error(t.momentum_where.text() + ": expected " + name_of(t.param.dtype) +
                         " like " + t.param_where.text() + " or float32, got " +
                         name_of(view.dtype));
  }
  t.momentum = Extents(view);
  require_writable(view, t.momentum, t.momentum_where);
  written_.add(t.momentum, t.momentum_where);
  hold(array, view, false);
}

void ChosenCall::add(const py::object& params, const py::object& grads, const py::list& indices,
                     const py::object& momentum_buffers, const SgdParams& hyper,
                     const std::vector<bool>& first) {
  const bool moves = hyper.momentum != 0.0;
  const ArrayList param_list = array_list(params, "params");
  const std::size_t n = param_list.items.size();
  const ArrayList grad_list = array_list(grads, "grads");
  require_length(grad_list, "grads", n);
  ArrayList momentum_list;
  if (moves) {
    momentum_list = array_list(momentum_buffers, "momentum_buffers");
    require_length(momentum_list, "momentum_buffers", n);
  }
  const auto group = static_cast<int>(groups_.size());
  groups_.push_back({hyper});
  for (std::size_t i = 0; i < n; ++i) {
    const auto index = param_list.single ? -1 : static_cast<std::ptrdiff_t>(tensors_.size());
    add_tensor(param_list.items[i], grad_list.items[i], indices[i], index);
    if (moves) add_momentum(momentum_list.items[i]);
    const Tensor& t = tensors_.back();
    const DType momentum = moves ? t.momentum.dtype : t.param.dtype;
    const int types = dense_types_row(t.param.dtype, t.grad.dtype, momentum);
    if (types < 0) refuse_grad_dtype(t.param, t.param_where, view_of(t.grad), t.grad_where);
    work_.push_back({t.indices->view(), t.param.data, t.grad.data,
                     moves ? t.momentum.data : nullptr, t.layout.get(), group, types, first[i]});
  }
}

Clipping ChosenCall::judge(const std::vector<ChosenTensor>& tensors) const {
  if (!clips(groups_, clip_)) return {};
  SquareSums sums(tensors.size());
  if (measures(groups_, clip_)) sums = square_sums(tensors);
  std::vector<Measured> measured;
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    const bool wide = kDenseTypes[tensors[i].types].grad == DType::f64;
    measured.push_back({tensors[i].group, sums[i], wide});
  }
  return clipping_of({}, {}, groups_, clip_, measured);
}

std::optional<double> ChosenCall::run(
    const std::vector<std::tuple<py::dict, py::object, py::object>>& then) {
  written_.seal();
  std::int64_t elements = 0;
  for (const Tensor& t : tensors_) {
    written_.refuse(view_of(t.grad), t.grad_where, t.param);
    elements += t.indices->size();
  }
  Clipping clipping;
  without_gil(elements, [&] { clipping = judge(work_); });
  const auto norm = clipping.measured ? std::optional(clipping.norm) : std::nullopt;
  if (clipping.skip) return norm;
  if (versioned_.size() > 0) increment_versions(versioned_);
  without_gil(elements, [&] { run_chosen(work_, groups_, clipping.stages); });
  for (const auto& [dict, key, value] : then) {
    if (PyDict_SetItem(dict.ptr(), key.ptr(), value.ptr()) != 0) throw py::error_already_set();
  }
  return norm;
}

void swap_values(const py::list& params, const py::list& indices, const py::list& values,
                 const std::vector<std::pair<std::string, std::string>>& names) {
  struct Swap {
    Where param_where, values_where;
    Extents param, values;
    std::optional<CheckedIndices> indices;
    std::unique_ptr<const Layout> layout;
  };
  std::deque<Swap> all;
  WrittenMemory written;
  std::vector<ChosenValues> work;
  std::int64_t elements = 0;
  py::list versioned;
  for (std::size_t i = 0; i < params.size(); ++i) {
    Swap& swap = all.emplace_back();
    swap.param_where = {names[i].first.c_str()};
    swap.values_where = {names[i].second.c_str()};
    const ArrayView param = view_array(params[i], swap.param_where);
    const ArrayView given = view_array(values[i], swap.values_where);
    swap.param = Extents(param);
    swap.values = Extents(given);
    require_writable(param, swap.param, swap.param_where);
    swap.indices.emplace(py::cast<py::array>(indices[i]), swap.param.size, names[i].second,
                         names[i].first);
    require_run(given, swap.values_where, swap.indices->size(), "one value for each index");
    if (given.dtype != param.dtype) {
      throw py::type_error(swap.values_where.text() + ": expected " + name_of(param.dtype) +
                           " like " + swap.param_where.text() + ", got " + name_of(given.dtype));
    }
    written.add(swap.param, swap.param_where);
    written.add(swap.values, swap.values_where);
    swap.layout = chosen_layout(swap.param, swap.param);
    work.push_back({swap.indices->view(), param.data, given.data, swap.layout.get(), param.dtype});
    elements += swap.indices->size();
    if (is_torch(param.source)) versioned.append(params[i]);
  }
  written.seal();
  if (versioned.size() > 0) increment_versions(versioned);
  without_gil(elements, [&] { swap_chosen(work); });
}

}  // namespace subgrad
