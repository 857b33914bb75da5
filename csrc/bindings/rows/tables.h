// Parameters, and what momentum they have, seen as tables of rows that are to be written.
#pragma once

#include <pybind11/pybind11.h>

#include <cstddef>
#include <memory>
#include <vector>

#include "bindings/dense/plan.h"
#include "cpu/rows/rows.h"

namespace subgrad {

// Elements of a row. Raises if rows are not runs of memory.
std::int64_t row_length(const Extents& array, const Where& where);

class RowTables {
 public:
  // Raises what `where` names for what cannot be stepped row by row.
  void add_param(const py::handle& array, const Where& where);
  // Of the parameter added last.
  void add_momentum(const py::handle& array, const Where& where);
  // Keeps an array for as long as this lives.
  void hold(const py::handle& array) { held_.append(array); }

  DensePlan& plan() { return plan_; }  // checks what is written
  std::vector<RowSegment>& segments() { return segments_; }
  const std::vector<RowSegment>& segments() const { return segments_; }

  // Tells autograd what will be written. Runs code of Python's.
  void announce() const;

 private:
  void hold_written(const py::handle& array, const ArrayView& view);

  DensePlan plan_;
  std::vector<RowSegment> segments_;
  py::list held_;       // what the segments point into
  py::list versioned_;  // the torch tensors that are written
};

}  // namespace subgrad
