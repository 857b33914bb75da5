#include "bindings/rows/tables.h"

namespace subgrad {

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

void RowTables::hold_written(const py::handle& array, const ArrayView& view) {
  hold(array);
  if (is_torch(view.source)) versioned_.append(array);
}

void RowTables::add_param(const py::handle& array, const Where& where) {
  const ArrayView view = view_array(array, where);
  if (view.ndim == 0) {
    throw py::value_error(where.text() + ": expected rows, got " + view.describe());
  }
  plan_.add(view, where, 0);
  const Extents& param = plan_.param(plan_.size() - 1);
  segments_.push_back({});
  RowSegment& s = segments_.back();
  s.length = row_length(param, where);
  s.param = view.data;
  s.param_stride = param.strides[0];
  s.param_type = s.momentum_type = view.dtype;
  hold_written(array, view);
}

void RowTables::add_momentum(const py::handle& array, const Where& where) {
  const ArrayView view = view_array(array, where);
  plan_.add_momentum(view, where);
  const Extents& momentum = plan_.momentum(plan_.size() - 1);
  row_length(momentum, where);
  RowSegment& s = segments_.back();
  s.momentum = view.data;
  s.momentum_stride = momentum.strides[0];
  s.momentum_type = view.dtype;
  hold_written(array, view);
}

void RowTables::announce() const {
  if (versioned_.size() > 0) increment_versions(versioned_);
}

}  // namespace subgrad
