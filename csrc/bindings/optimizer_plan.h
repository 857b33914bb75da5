// The plan behind optim.SGD: from a torch optimizer's param_groups and state to a dense step,
// touching every parameter and gradient object once, and no state tensor whose memory is ours
// (buffers.h).
#pragma once

#include <vector>

#include "bindings/dense_plan.h"
#include "bindings/tensor_form.h"

namespace subgrad {

class OptimizerPlan {
 public:
  // `entries` lists (group index, param, momentum buffer or None, first, covered) in the order of
  // param_groups. An entry that is not covered belongs to torch's own code. `first`: the buffer
  // holds nothing yet. Raises what DensePlan raises.
  OptimizerPlan(const py::list& param_groups, const py::dict& state, const py::list& entries);

  // One step. Returns None when it is done; False when groups, state, a parameter's memory or the
  // need for a momentum buffer has changed, so that the plan must be rebuilt (nothing has been
  // written then); or the list of (group index, param, sparse) that the plan cannot step; sparse:
  // only for the gradient's layout. In that last case the rest waits for finish(), so that nothing
  // is written if one of those raises.
  py::object step(const py::list& param_groups, const py::dict& state);
  void finish();

  // For Python's garbage collector: the plan holds parameters, which may hold their optimizer.
  int traverse(visitproc visit, void* arg) const;
  void clear();

 private:
  struct Entry {
    PyObject* param;               // owned by params_
    const DLPackExchangeAPI* api;  // of the parameter's type; null: the slow way
    PyGetSetDef* grad;             // the getter of the parameter's `grad`; null: the slow way
    PyObject* momentum = nullptr;  // owned by momenta_; null: none
    int group;
    int tensor = -1;  // in plan_, or -1: torch's
    bool first;
    bool foreign = false;       // its momentum's memory is not ours: look where it is at every step
    bool watch_layout = false;  // a gradient of this parameter was not dense before
    char* data = nullptr;       // the parameter's memory
    TensorForm form;  // the parameter's, and what a gradient usually has; none: look closer
  };
  struct Group {
    py::object dict, params;
    std::vector<PyObject*> items;
  };
  struct StateItem {
    py::object param, dict, momentum;
    std::uint64_t version = 0;  // of the dict, when it last held that momentum
  };
  enum class Bound { yes, torch, sparse, stale };

  bool lr_on_device(std::size_t group, PyObject* lr);
  bool same_momentum(const Entry& entry) const;
  bool same_buffers();

  void read_groups(const py::list& param_groups);
  bool same_groups(const py::list& param_groups) const;
  bool same_state(const py::dict& state);
  void read_rows();
  bool bind_usual(const Entry& entry, PyObject* grad);
  Bound bind(std::size_t i, py::object grad);
  void run();

  DensePlan plan_;
  std::vector<Entry> entries_;
  std::vector<Group> groups_;
  std::vector<StateItem> state_;
  std::vector<SgdParams> rows_;
  std::vector<const float*> device_lr_;  // of groups whose learning rate lies on a device
  std::vector<int> lr_device_;
  std::vector<bool> torch_rows_;    // groups that torch has to step as a whole (differentiable)
  std::vector<bool> usual_groups_;  // groups with numbers for hyper-parameters
  std::vector<py::object> momenta_;
  std::vector<std::shared_ptr<void>> buffers_;  // shares in the memory that is ours
  std::uint64_t released_ = 0;                  // buffers_released() when all were in place
  std::vector<py::object> grads_;               // kept for the length of a step
  py::list params_;                             // of all entries
  std::vector<PyObject*> stepped_;              // the parameters bound in this step
  bool busy_ = false;
};

}  // namespace subgrad
