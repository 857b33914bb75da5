// How a plan looks at the gradients of a step that has begun.
#include "bindings/optimizer/plan.h"
#include "bindings/optimizer/step_guards.h"

namespace subgrad {

bool OptimizerPlan::looks(const GivenOptions& options) const {
  return options.on_device() || clips(state_.groups(), options);
}

void OptimizerPlan::look(const GivenOptions& options, const std::vector<Measured>& others,
                         const SquareSums* squares) {
  if (looks(options) || plan_.counted()) {
    clipping_ = plan_.measure(state_.groups(), options, others, squares);
  } else if (clipping_.looked) {
    clipping_ = Found();
  }
}

const Found& OptimizerPlan::judge(const std::vector<Measured>& others, const py::object& squares) {
  refuse_within(work_);
  const AtWork::Scope working(work_);
  Forgetting forgetting(*this);
  SquareSums sums;
  if (!squares.is_none()) {
    const SquareSums by_entry = read_squares(squares, entries_.size());
    sums.resize(plan_.size());
    for (std::size_t i = 0; i < entries_.size(); ++i) {
      if (grads_[i]) sums[static_cast<std::size_t>(entries_[i].tensor)] = by_entry[i];
    }
  }
  look(options_.value_or(GivenOptions()), others, squares.is_none() ? nullptr : &sums);
  if (!clipping_.skip) forgetting.keep();
  return clipping_;
}

py::array_t<double> OptimizerPlan::squares() {
  refuse_within(work_);
  const AtWork::Scope working(work_);
  const SquareSums sums = plan_.squares();
  SquareSums by_entry(entries_.size());
  for (std::size_t i = 0; i < entries_.size(); ++i) {
    if (grads_[i]) by_entry[i] = sums[static_cast<std::size_t>(entries_[i].tensor)];
  }
  return as_array(by_entry);
}

}  // namespace subgrad
