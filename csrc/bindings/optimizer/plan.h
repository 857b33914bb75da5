// The plan behind optim.SGD: from a torch optimizer's param_groups and state to a dense step,
// touching every parameter, momentum and gradient object once. What it believes of them it compares
// with what they are at every step; memory that has moved mends its entry.
#pragma once

#include <memory>
#include <optional>
#include <tuple>
#include <unordered_map>
#include <vector>

#include "bindings/border/turns.h"
#include "bindings/clip/squares.h"
#include "bindings/dense/plan.h"
#include "bindings/optimizer/shards.h"
#include "bindings/optimizer/state.h"
#include "bindings/optimizer/tensor_form.h"
#include "bindings/optimizer/tensor_hints.h"
#include "bindings/optimizer/tensor_mark.h"
#include "bindings/rows/row_step.h"

namespace subgrad {

// A parameter that the plan could not step.
struct Remaining {
  int group;
  py::object param;
  bool other_layout;  // only for the gradient's layout, which is not dense
};

// What a step came to. done: it is over, taken or skipped. stale: groups, state, a parameter's
// memory or the need for a momentum buffer or an average have changed, so a new plan is to be made;
// nothing has been written.
struct Outcome {
  enum class Kind : std::uint8_t { done, stale, remaining };
  Kind kind;
  std::vector<Remaining> remaining;
};

class OptimizerPlan {
 public:
  // `entries` lists (group index, param, momentum buffer or None, first, average or None, first
  // average, covered, counts, shard) in the order of param_groups. An entry that is not covered
  // belongs to torch's own code. `first`: the buffer or the average holds nothing yet; a plan with
  // such entries takes one step, and is stale from then on. `counts`: a tensor of four int32 on the
  // parameter's device, which say that in place of `first`, or None. `shard`: the tensor here of a
  // param that is a DTensor, as its buffer and average are, or None. Raises what DensePlan raises.
  OptimizerPlan(const py::list& param_groups, const py::dict& state, const py::list& entries);

  // One step; an Outcome. Where entries remain, or memory that holds nothing yet is to become
  // state, the plan's own wait for judge() and finish(), so that nothing is written if something
  // else raises. Null options: as the groups alone say.
  py::object step(const py::list& param_groups, const py::dict& state, const GivenOptions* options);

  // The outcome of a step that another plan is to take.
  py::object stale() const { return stale_; }

  // Looks at all gradients of the step that has begun, those measured elsewhere included; what
  // becomes of the latter is in the last of the stages. `squares`: None, or what squares() returned
  // in each of several processes, which is then taken for what the gradients' sums are.
  const Found& judge(const std::vector<Measured>& others, const py::object& squares);

  // The sums of squares of the gradients of the step that has begun, by entry: clip/squares.h.
  py::array_t<double> squares();

  // Takes the plan's part of the step and these on rows, then puts new tensors into their slots of
  // the optimizer's state: (slots, key, tensor). No code of Python's runs from the first weight
  // that is written to the last slot, so that no interrupt can come in between.
  using NewSlot = std::tuple<py::object, py::str, py::object>;
  void finish(const std::vector<RowStep*>& row_steps, const std::vector<NewSlot>& slots);

  // Ends a step that has begun and is not to be finished: lets go of its gradients.
  void forget();

  // What the last step that looked at its gradients found.
  const Found& clipping() const { return clipping_; }

  // For Python's garbage collector: the plan holds parameters, which may hold their optimizer.
  int traverse(visitproc visit, void* arg) const;
  void clear();

 private:
  // What every step reads of an entry: one cache line.
  struct Entry {
    PyObject* param;  // owned by params_ or shards_: what lies in memory here
    int type;         // in types_
    int group;
    int tensor = -1;  // in plan_, or -1: torch's
    bool first;
    bool unmarked = false;      // a tensor of it has no mark: its library is asked at every step
    bool watch_layout = false;  // a gradient of this parameter was not dense before
    TensorForm form;  // the parameter's, and what a gradient usually has; none: look closer
  };
  // Of a parameter's type: its exchange table and the getter of its `grad`; null: the slow way.
  struct ParamType {
    PyTypeObject* type;  // kept alive by the parameters
    const DLPackExchangeAPI* api;
    PyGetSetDef* grad;
    bool known_layout;  // of its tensors' Python objects
    bool sharded;       // they are shards, and their parameters have the gradients
  };
  class Forgetting;
  enum class Bound : std::uint8_t { yes, torch, other_layout, stale };

  void add(const py::tuple& entry);
  void take_gradients();
  int type_index(PyObject* param, bool sharded);
  PyObject* param_of(std::size_t entry) const;
  TensorForm usual_form(const Entry& entry) const;
  bool same_slots(const Entry& entry) const;
  bool in_place(const std::vector<OptimizerState::Replaced>& replaced);
  bool take_momentum(std::size_t tensor, const py::object& momentum);
  bool mend_param(const Entry& entry);
  const Entry* entry_of(PyObject* param);
  bool bind_usual(const Entry& entry, PyObject* grad);
  Bound bind(std::size_t i, PyObject* grad);
  bool has_average(const Entry& entry) const;
  bool looks(const GivenOptions& options) const;
  void look(const GivenOptions& options, const std::vector<Measured>& others,
            const SquareSums* squares = nullptr);
  void announce() const;
  void run();

  DensePlan plan_;
  OptimizerState state_;
  std::vector<Entry> entries_;
  std::vector<ParamType> types_;
  std::vector<py::object> counts_;  // all there are
  // By tensor of plan_, of DTensors the shards; null, or none, where there is no such tensor.
  std::vector<py::object> momenta_, averages_;
  std::vector<TensorMark> param_marks_, momentum_marks_, average_marks_;
  std::vector<std::shared_ptr<void>> shares_, average_shares_;  // in memory of ours (buffers.h)
  std::unordered_map<PyObject*, std::size_t> entry_of_;         // made when it is first asked for
  std::vector<py::object> grads_;  // by entry, for the length of a step; null: not stepped
  py::list params_;                // of all entries
  Shards shards_;                  // of those that are DTensors
  py::object done_, stale_;        // made once, as nearly every step returns one of them
  TensorMark::Word negation_;      // the key of gradients to be negated first; 0: not known
  bool any_first_ = false;
  bool any_shared_ = false;  // whether a parameter is a DTensor, stepped here or not
  bool usable_ = true;
  std::optional<GivenOptions> options_;  // of the step that has begun
  Found clipping_;
  AtWork work_;
};

}  // namespace subgrad
