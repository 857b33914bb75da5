#include "bindings/rows/row_step.h"

#include <pybind11/numpy.h>

#include <algorithm>
#include <string>

#include "bindings/border/gil.h"
#include "bindings/border/narrowed.h"
#include "cpu/loading/gather.h"
#include "rules/table.h"

namespace subgrad {
namespace {

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
                 const py::list& momentum_buffers, const py::list& histories, bool single,
                 const SgdParams& hyper, bool first_step)
    : hyper_(hyper), first_step_(first_step) {
  for (std::size_t i = 0; i < params.size(); ++i) {
    const auto where = [&](const char* argument) {
      return Where{argument, single ? -1 : static_cast<std::ptrdiff_t>(i)};
    };
    tables_.add_param(params[i], where("params"));
    if (hyper.momentum != 0.0) tables_.add_momentum(momentum_buffers[i], where("momentum_buffers"));
    if (!histories.empty()) add_history(histories[i], where("history"));
    add_gradient(rows[i], values[i], where("grads"), where("params"));
  }
  tables_.plan().seal();
  for (std::size_t i = 0; i < params.size(); ++i) {
    const Where where{"grads", single ? -1 : static_cast<std::ptrdiff_t>(i)};
    tables_.plan().refuse(view_array(values[i], where), where);
  }
}

RowWork& RowStep::work() {
  if (work_ == nullptr) work_ = std::make_unique<RowWork>(tables_.segments(), hyper_);
  return *work_;
}

std::vector<Measured> RowStep::measured(int group, bool sums) {
  SquareSums found;
  if (sums) {
    const WithoutGil released;
    found = work().square_sums();
  }
  found.resize(tables_.segments().size());
  std::vector<Measured> all;
  for (std::size_t i = 0; i < found.size(); ++i) {
    all.push_back({group, found[i], tables_.segments()[i].value_type == DType::f64});
  }
  return all;
}

void RowStep::run() {
  const HistoryTurns turns(histories_);
  const WithoutGil released;
  RowWork& work = this->work();
  for (std::size_t i = 0; first_step_ && i < tables_.segments().size(); ++i) {
    const RowSegment& s = tables_.segments()[i];
    if (s.momentum == nullptr) continue;
    const Extents& momentum = tables_.plan().momentum(i);
    clear_rows(s.momentum, s.momentum_stride, momentum.shape[0], s.length * momentum.itemsize());
  }
  work.run(stages_);
}

std::pair<std::int64_t, std::int64_t> RowStep::first_lacking() const {
  const HistoryTurns turns(histories_);
  for (std::size_t i = 0; i < histories_.size(); ++i) {
    const RowSegment& s = tables_.segments()[i];
    const std::int64_t at = s.history->first_lacking(s.rows, s.n);
    if (at >= 0) return {static_cast<std::int64_t>(i), s.rows[at]};
  }
  return {-1, -1};
}

void RowStep::add_history(const py::handle& object, const Where& where) {
  auto& given = object.cast<GivenHistory&>();
  const Extents& param = tables_.plan().param(tables_.plan().size() - 1);
  require_rows(given, param.shape[0], where);
  if (std::find(histories_.begin(), histories_.end(), &given) != histories_.end()) {
    throw py::value_error(where.text() + ": the history of another parameter");
  }
  if (hyper_.momentum == 0.0 && given.history.has_momentum()) {
    throw py::value_error(where.text() + ": rows lack steps that move momentum; call catch_up()");
  }
  tables_.hold(object);
  histories_.push_back(&given);
  RowSegment& s = tables_.segments().back();
  s.history = &given.history;
  s.first = first_step_;
}

void RowStep::add_gradient(const py::handle& rows, const py::handle& array, const Where& where,
                           const Where& param_where) {
  const auto numbers = py::cast<RowNumbers>(rows);
  const ArrayView given = view_array(array, where);
  const Extents& param = tables_.plan().param(tables_.plan().size() - 1);
  const ArrayView view = needs_narrowing(given, param.dtype) ? narrowed(given) : given;
  if (view.owned != nullptr) loans_.push_back(view.owned);
  RowSegment& s = tables_.segments().back();
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
  tables_.hold(array);
}

}  // namespace subgrad
