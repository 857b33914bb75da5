#include "bindings/rows/row_step.h"

#include <pybind11/numpy.h>

#include <string>

#include "bindings/border/gil.h"
#include "bindings/border/narrowed.h"
#include "cpu/loading/gather.h"
#include "rules/table.h"

namespace subgrad {
namespace {

using RowNumbers = py::array_t<std::int64_t, py::array::c_style>;

// Elements of a row. Raises if rows are not runs of memory.
std::int64_t row_length(const Extents& array, const Where& where) {
  std::int64_t length = 1;
  bool contiguous = array.aligned();
  for (int d = array.ndim(); d-- > 1; length *= array.shape[d]) {
    contiguous &= array.shape[d] == 1 || array.strides[d] == length * array.itemsize();
  }
  if (!contiguous && array.size > 0) {
    throw py::value_error(where.text() + ": expected each row to be contiguous in memory");
  }
  return length;
}

void require_values_shape(const ArrayView& values, const Where& where, std::int64_t n,
                          const Extents& param, const Where& param_where) {
  std::vector<std::int64_t> wanted(param.shape.data(), param.shape.data() + param.ndim());
  wanted[0] = n;
  if (std::vector<std::int64_t>(values.shape, values.shape + values.ndim) == wanted) return;
  throw py::value_error(where.text() + ": expected values of shape " +
                        shape_text(param.ndim(), wanted.data()) + " for " + std::to_string(n) +
                        " rows of " + param_where.text() + ", got " + values.describe());
}

}  // namespace

RowStep::RowStep(const py::list& params, const py::list& rows, const py::list& values,
                 const py::list& momentum_buffers, bool single, const SgdParams& hyper,
                 bool first_step)
    : hyper_(hyper), first_step_(first_step) {
  for (std::size_t i = 0; i < params.size(); ++i) {
    const auto where = [&](const char* argument) {
      return Where{argument, single ? -1 : static_cast<std::ptrdiff_t>(i)};
    };
    segments_.emplace_back();
    add_param(params[i], where("params"));
    if (hyper.momentum != 0.0) add_momentum(momentum_buffers[i], where("momentum_buffers"));
    add_gradient(rows[i], values[i], where("grads"), where("params"));
  }
  plan_.seal();
  for (std::size_t i = 0; i < params.size(); ++i) {
    const Where where{"grads", single ? -1 : static_cast<std::ptrdiff_t>(i)};
    plan_.refuse(view_array(values[i], where), where);
  }
}

void RowStep::announce() const {
  if (versioned_.size() > 0) increment_versions(versioned_);
}

RowWork& RowStep::work() {
  if (work_ == nullptr) work_ = std::make_unique<RowWork>(segments_, hyper_);
  return *work_;
}

std::vector<Measured> RowStep::measured(int group, bool sums) {
  SquareSums found;
  if (sums) {
    const WithoutGil released;
    found = work().square_sums();
  }
  found.resize(segments_.size());
  std::vector<Measured> all;
  for (std::size_t i = 0; i < segments_.size(); ++i) {
    all.push_back({group, found[i], segments_[i].value_type == DType::f64});
  }
  return all;
}

void RowStep::run() {
  const WithoutGil released;
  RowWork& work = this->work();
  for (std::size_t i = 0; first_step_ && i < plan_.size(); ++i) {
    const RowSegment& s = segments_[i];
    if (s.momentum == nullptr) continue;
    const Extents& momentum = plan_.momentum(i);
    clear_rows(s.momentum, s.momentum_stride, momentum.shape[0], s.length * momentum.itemsize());
  }
  work.run(stages_);
}

void RowStep::hold(const py::handle& array, const ArrayView& view, bool written) {
  held_.append(array);
  if (written && is_torch(view.source)) versioned_.append(array);
}

void RowStep::add_param(const py::handle& array, const Where& where) {
  const ArrayView view = view_array(array, where);
  if (view.ndim == 0) {
    throw py::value_error(where.text() + ": expected rows, got " + view.describe());
  }
  plan_.add(view, where, 0);
  const Extents& param = plan_.param(plan_.size() - 1);
  RowSegment& s = segments_.back();
  s.length = row_length(param, where);
  s.param = view.data;
  s.param_stride = param.strides[0];
  s.param_type = s.momentum_type = view.dtype;
  hold(array, view, true);
}

void RowStep::add_momentum(const py::handle& array, const Where& where) {
  const ArrayView view = view_array(array, where);
  plan_.add_momentum(view, where);
  const Extents& momentum = plan_.momentum(plan_.size() - 1);
  row_length(momentum, where);
  RowSegment& s = segments_.back();
  s.momentum = view.data;
  s.momentum_stride = momentum.strides[0];
  s.momentum_type = view.dtype;
  hold(array, view, true);
}

void RowStep::add_gradient(const py::handle& rows, const py::handle& array, const Where& where,
                           const Where& param_where) {
  const auto numbers = py::cast<RowNumbers>(rows);
  const ArrayView given = view_array(array, where);
  const Extents& param = plan_.param(plan_.size() - 1);
  const ArrayView view = needs_narrowing(given, param.dtype) ? narrowed(given) : given;
  if (view.owned != nullptr) loans_.push_back(view.owned);
  RowSegment& s = segments_.back();
  rows_.emplace_back(numbers.data(), numbers.data() + numbers.size());
  s.n = numbers.size();
  s.rows = rows_.back().data();
  require_values_shape(view, where, s.n, param, param_where);
  if (dense_types_row(s.param_type, view.dtype, s.momentum_type) < 0) {
    throw py::type_error(where.text() + ": expected values of " + name_of(s.param_type) + " like " +
                         param_where.text() + ", or of float32, bfloat16 or float16, got " +
                         name_of(view.dtype));
  }
  const Extents values(view);
  row_length(values, where);
  s.values = view.data;
  s.value_stride = values.strides[0];
  s.value_type = view.dtype;
  const std::int64_t count = param.shape[0], at = first_outside(s.rows, s.n, count);
  if (at >= 0) {
    throw py::value_error(where.text() + ": row " + std::to_string(s.rows[at]) + " at position " +
                          std::to_string(at) + " is outside the " + std::to_string(count) +
                          " rows of " + param_where.text());
  }
  hold(array, view, false);
}

}  // namespace subgrad
