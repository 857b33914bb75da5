// A step on rows: everything is checked when it is made, and nothing written until it runs.
#pragma once

#include <pybind11/pybind11.h>

#include <cstdint>
#include <vector>

#include "bindings/dense/plan.h"
#include "cpu/rows/rows.h"

namespace subgrad {

class RowStep {
 public:
  // `single`: messages name the arguments without an index. Row numbers are copied, for the caller
  // may change his own while they are used.
  RowStep(const py::list& params, const py::list& rows, const py::list& values,
          const py::list& momentum_buffers, bool single, const SgdParams& hyper, bool first_step);

  // Tells autograd what will be written. Runs code of Python's.
  void announce() const;
  // Takes the step, without the GIL.
  void run();

 private:
  void hold(const py::handle& array, const ArrayView& view, bool written);
  void add_param(const py::handle& array, const Where& where);
  void add_momentum(const py::handle& array, const Where& where);
  void add_gradient(const py::handle& rows, const py::handle& array, const Where& where,
                    const Where& param_where);

  SgdParams hyper_;
  bool first_step_;
  DensePlan plan_;  // checks what is written
  std::vector<RowSegment> segments_;
  std::vector<std::vector<std::int64_t>> rows_;  // by segment
  py::list held_;                                // what the segments point into
  py::list versioned_;                           // the torch tensors that the step writes
};

}  // namespace subgrad
