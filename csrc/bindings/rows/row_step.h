// A step on rows: everything is checked when it is made, and nothing written until it runs.
#pragma once

#include <pybind11/pybind11.h>

#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "bindings/dense/plan.h"
#include "cpu/clip/stages.h"
#include "cpu/rows/rows.h"

namespace subgrad {

class RowStep {
 public:
  // `single`: messages name the arguments without an index. Row numbers are copied, for the caller
  // may change his own while they are used.
  RowStep(const py::list& params, const py::list& rows, const py::list& values,
          const py::list& momentum_buffers, bool single, const SgdParams& hyper, bool first_step);

  const SgdParams& hyper() const { return hyper_; }

  // The gradients of a group of that number, by parameter: the sums of squares of what the rows are
  // stepped with, values of rows that are named more than once added first; 0 if not asked for.
  // Works without the GIL; nothing is written.
  std::vector<Measured> measured(int group, bool sums);
  // What becomes of those gradients, by parameter; empty where nothing does.
  void set_stages(Stages stages) { stages_ = std::move(stages); }

  // Tells autograd what will be written. Runs code of Python's.
  void announce() const;
  // Takes the step, once, without the GIL.
  void run();

 private:
  RowWork& work();
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
  std::unique_ptr<RowWork> work_;                // null: nobody has needed it yet
  Stages stages_;
  py::list held_;                             // what the segments point into
  std::vector<std::shared_ptr<void>> loans_;  // and what is ours of it
  py::list versioned_;                        // the torch tensors that the step writes
};

}  // namespace subgrad
