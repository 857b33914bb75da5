// How a plan finds out what has changed since its last step, and mends entries whose memory moved.
#include "bindings/border/buffers.h"
#include "bindings/border/gradient_of.h"
#include "bindings/optimizer/plan.h"

namespace subgrad {
namespace {

bool lies_at(const Extents& extents, const py::object& tensor, const Where& where) {
  if (!tensor) return true;
  const DLPackExchangeAPI* api = exchange_api(Py_TYPE(tensor.ptr()));
  ArrayView view;
  if (api == nullptr) return extents.same(view_array(tensor, where, Memory::any));
  return quick_view(api, tensor.ptr(), view, Memory::any) == Quick::ok && extents.same(view);
}

}  // namespace

// Whether momentum and average lie where they did.
bool OptimizerPlan::same_slots(const Entry& e) const {
  const auto tensor = static_cast<std::size_t>(e.tensor);
  return lies_at(plan_.momentum(tensor), momenta_[tensor], {"momentum_buffers"}) &&
         lies_at(plan_.average(tensor), averages_[tensor], {"ema"});
}

const OptimizerPlan::Entry* OptimizerPlan::entry_of(PyObject* param) {
  if (entry_of_.empty()) {
    for (std::size_t i = 0; i < entries_.size(); ++i) entry_of_[entries_[i].param] = i;
  }
  const auto it = entry_of_.find(param);
  return it == entry_of_.end() ? nullptr : &entries_[it->second];
}

namespace {

// Whether a tensor can stand in the place of one that lay as `extents` say: it has memory of the
// host, of the same type and in the same order.
bool stands_in(PyObject* tensor, const Extents& extents, ArrayView& view) {
  const DLPackExchangeAPI* api = exchange_api(Py_TYPE(tensor));
  return api != nullptr && quick_view(api, tensor, view) == Quick::ok &&
         view.dtype == extents.dtype && extents.same_layout(view) && !has_negation(tensor);
}

}  // namespace

bool OptimizerPlan::take_momentum(std::size_t tensor, const py::object& momentum) {
  if (!is_plain_tensor(momentum.ptr())) return false;
  ArrayView view;
  if (!momenta_[tensor] || !stands_in(momentum.ptr(), plan_.momentum(tensor), view)) return false;
  momentum_marks_[tensor] = mark_of(momentum);
  if (!momentum_marks_[tensor]) return false;
  momenta_[tensor] = momentum;
  shares_[tensor] = find_buffer(view.data);
  plan_.move_momentum(tensor, view.data);
  return true;
}

bool OptimizerPlan::mend_param(const Entry& e) {
  const auto tensor = static_cast<std::size_t>(e.tensor);
  ArrayView view;
  if (!stands_in(e.param, plan_.param(tensor), view)) return false;
  param_marks_[tensor] = mark_of(py::reinterpret_borrow<py::object>(e.param));
  if (!param_marks_[tensor]) return false;
  plan_.move_param(tensor, view.data);
  return true;
}

// Whether all memory is where it was, or has been found where it is now. False: more has changed
// than where it is, so that a new plan is to be made.
bool OptimizerPlan::in_place(const std::vector<OptimizerState::Replaced>& replaced) {
  constexpr std::size_t kFar = 12, kNear = 6;
  // A parameter or buffer that is a DTensor has another shard only where it was given one: by code
  // of Python's that ran since, too.
  if (!shards_.same()) return false;
  bool moved = false;
  for (const auto& [param, momentum] : replaced) {
    const Entry* const e = entry_of(param);
    if (e == nullptr || e->tensor < 0) return false;
    if (!take_momentum(static_cast<std::size_t>(e->tensor), momentum)) return false;
    moved = true;
  }
  for (const Entry& e : entries_) {
    if (Py_TYPE(e.param) != types_[static_cast<std::size_t>(e.type)].type) return false;
    if (e.tensor < 0) continue;
    const auto i = static_cast<std::size_t>(e.tensor);
    if (i + kFar < momentum_marks_.size()) momentum_marks_[i + kFar].hint_tensor();
    if (i + kNear < momentum_marks_.size()) momentum_marks_[i + kNear].hint_object();
    if (param_marks_[i] && !param_marks_[i].same()) {
      if (!mend_param(e)) return false;
      moved = true;
    }
    if (momentum_marks_[i] && !momentum_marks_[i].same()) {
      if (!take_momentum(i, momenta_[i])) return false;
      moved = true;
    }
    if (average_marks_[i] && !average_marks_[i].same()) return false;
    if (e.unmarked && !same_slots(e)) return false;
  }
  if (!moved) return true;
  usable_ = false;  // for good, if memory is shared now: that throws
  plan_.reseal();
  usable_ = true;
  return true;
}

}  // namespace subgrad
