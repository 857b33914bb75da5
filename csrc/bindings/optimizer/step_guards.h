// What every part of a plan's step begins with.
#pragma once

#include <stdexcept>

#include "bindings/optimizer/plan.h"

namespace subgrad {

// Other threads wait for their turn before they get here; a thread finds the plan at work where
// code of a parameter's, such as its `grad`, steps the optimizer again.
inline void refuse_within(const AtWork& work) {
  if (work.now()) throw std::runtime_error("step: called from within itself");
}

// Lets go of the gradients of a step, however it ends, unless it is to go on.
class OptimizerPlan::Forgetting {
 public:
  explicit Forgetting(OptimizerPlan& plan) : plan_(&plan) {}
  ~Forgetting() {
    if (plan_ != nullptr) plan_->forget();
  }
  Forgetting(const Forgetting&) = delete;
  Forgetting& operator=(const Forgetting&) = delete;
  void keep() { plan_ = nullptr; }

 private:
  OptimizerPlan* plan_;
};

}  // namespace subgrad
