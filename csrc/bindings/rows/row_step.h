// A step on rows: everything is checked when it is made, and nothing written until it runs.
#pragma once

#include <pybind11/pybind11.h>

#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "bindings/rows/history.h"
#include "bindings/rows/tables.h"
#include "cpu/clip/stages.h"
#include "cpu/rows/rows.h"

namespace subgrad {

class RowStep {
 public:
  // `histories`: one for each parameter, or none. `single`: messages name the arguments without an
  // index. Row numbers are copied, for the caller may change his own while they are used.
  RowStep(const py::list& params, const py::list& rows, const py::list& values,
          const py::list& momentum_buffers, const py::list& histories, bool single,
          const SgdParams& hyper, bool first_step);

  const SgdParams& hyper() const { return hyper_; }

  // The gradients of a group of that number, by parameter: the sums of squares of what the rows are
  // stepped with, values of rows that are named more than once added first; 0 if not asked for.
  // Works without the GIL; nothing is written.
  std::vector<Measured> measured(int group, bool sums);
  // What becomes of those gradients, by parameter; empty where nothing does.
  void set_stages(Stages stages) { stages_ = std::move(stages); }

  // The first parameter and row that a gradient names and that lacks a step, or (-1, -1).
  std::pair<std::int64_t, std::int64_t> first_lacking() const;

  void announce() const { tables_.announce(); }
  // Takes the step, once, without the GIL.
  void run();

 private:
  RowWork& work();
  void add_history(const py::handle& history, const Where& where);
  void add_gradient(const py::handle& rows, const py::handle& array, const Where& where,
                    const Where& param_where);

  SgdParams hyper_;
  bool first_step_;
  RowTables tables_;
  std::vector<GivenHistory*> histories_;
  std::vector<std::vector<std::int64_t>> rows_;  // by segment
  std::unique_ptr<RowWork> work_;                // null: nobody has needed it yet
  Stages stages_;
  std::vector<std::shared_ptr<void>> loans_;  // what is ours of the gradients
};

}  // namespace subgrad
