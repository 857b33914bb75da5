#include "bindings/optimizer/plan.h"

#include <algorithm>

#include "bindings/border/buffers.h"
#include "bindings/border/gradient_of.h"
#include "bindings/optimizer/group_dict.h"
#include "bindings/optimizer/step_guards.h"
#include "rules/table.h"

namespace subgrad {
namespace {

// Kernels on a GPU know no strides; torch's do.
bool steppable(const py::object& param, const py::object& average, std::ptrdiff_t index) {
  const ArrayView view = view_array(param, {"params", index}, Memory::any);
  if (view.device == kHost) return true;
  const Extents extents(view);
  if (!extents.dense() || average.is_none()) return extents.dense();
  return Extents(view_array(average, {"ema", index}, Memory::any)).alike(extents);
}

py::object or_null(const py::object& object) { return object.is_none() ? py::object() : object; }

}  // namespace

OptimizerPlan::OptimizerPlan(const py::list& param_groups, const py::dict& state,
                             const py::list& entries)
    : state_(param_groups, state), negation_(TensorMark::negation()) {
  for (const py::handle entry : entries) add(py::reinterpret_borrow<py::tuple>(entry));
  plan_.seal();
  grads_.resize(entries_.size());
  done_ = py::cast(Outcome{Outcome::Kind::done, {}});
  stale_ = py::cast(Outcome{Outcome::Kind::stale, {}});
}

void OptimizerPlan::add(const py::tuple& entry) {
  const py::object shard = entry[8], momentum = entry[2];
  const bool covered = entry[6].cast<bool>(), sharded = covered && !shard.is_none();
  any_shared_ = any_shared_ || !shard.is_none();
  const py::object param = sharded ? shard : entry[1];
  const std::size_t number = entries_.size();
  const auto index = static_cast<std::ptrdiff_t>(number);
  Entry& e = entries_.emplace_back();
  e.param = param.ptr();
  e.type = type_index(param.ptr(), sharded);
  if (sharded) shards_.add(number, entry[1], shard);
  e.group = entry[0].cast<int>();
  e.first = entry[3].cast<bool>();
  const py::object average = entry[4];
  const bool first_average = entry[5].cast<bool>();
  any_first_ = any_first_ || e.first || first_average;
  params_.append(entry[1]);
  const Where param_where{"params", index};
  if (!covered || !steppable(param, average, index)) return;

  e.tensor = static_cast<int>(plan_.size());
  plan_.add(view_array(param, param_where, Memory::any), param_where, e.group);
  param_marks_.push_back(mark_of(param));
  momenta_.push_back(shards_.watch(number, or_null(momentum)));
  momentum_marks_.push_back(mark_of(momenta_.back()));
  averages_.push_back(shards_.watch(number, or_null(average)));
  average_marks_.push_back(mark_of(averages_.back()));
  shares_.emplace_back();
  average_shares_.emplace_back();
  e.unmarked = !param_marks_.back();
  if (momenta_.back()) {
    const Where where{"momentum_buffers", index};
    const ArrayView view = view_array(momenta_.back(), where, Memory::any);
    plan_.add_momentum(view, where);
    shares_.back() = find_buffer(view.data);
    e.unmarked = !momentum_marks_.back() || e.unmarked;
  }
  if (averages_.back()) {
    const Where where{"ema", index};
    const ArrayView view = view_array(averages_.back(), where, Memory::any);
    plan_.add_average(view, where, first_average);
    average_shares_.back() = find_buffer(view.data);
    e.unmarked = !average_marks_.back() || e.unmarked;
    state_.watch_averages();
  }
  if (const py::object counts = entry[7]; !counts.is_none()) {
    const auto address = counts.attr("data_ptr")().cast<std::uintptr_t>();
    plan_.add_counts(reinterpret_cast<CudaStepCounts*>(address));
    counts_.push_back(counts);
  }
  e.form = usual_form(e);
}

int OptimizerPlan::type_index(PyObject* param, bool sharded) {
  PyTypeObject* const type = Py_TYPE(param);
  for (std::size_t i = types_.size(); i-- > 0;) {
    if (types_[i].type == type && types_[i].sharded == sharded) return static_cast<int>(i);
  }
  PyGetSetDef* const grad = gradient_getter(type);
  types_.push_back(
      {type, exchange_api(type), grad, grad != nullptr && has_known_layout(param), sharded});
  return static_cast<int>(types_.size()) - 1;
}

// An entry's parameter as the optimizer knows it.
PyObject* OptimizerPlan::param_of(std::size_t i) const {
  return shards_.has(i) ? shards_.param(i) : entries_[i].param;
}

// The form of a parameter whose gradients can be bound without a closer look, once they have it
// too.
TensorForm OptimizerPlan::usual_form(const Entry& e) const {
  const auto tensor = static_cast<std::size_t>(e.tensor);
  const DLPackExchangeAPI* api = types_[static_cast<std::size_t>(e.type)].api;
  if (api == nullptr || e.unmarked || !plan_.one_run(tensor) || plan_.param(tensor).size == 0) {
    return {};
  }
  DLTensor t;
  if (api->dltensor_from_py_object_no_sync(e.param, &t) != 0) return PyErr_Clear(), TensorForm();
  return TensorForm(t);
}

// Whether there is an average, if one is to be kept.
bool OptimizerPlan::has_average(const Entry& e) const {
  return state_.params(static_cast<std::size_t>(e.group)).ema_decay == kAbsent ||
         averages_[static_cast<std::size_t>(e.tensor)];
}

// The way that nearly every gradient of nearly every step takes: the gradient is a plain tensor
// laid out like its parameter. False: bind() is to look closer.
bool OptimizerPlan::bind_usual(const Entry& e, PyObject* grad) {
  const auto group = static_cast<std::size_t>(e.group);
  if (!e.form || !state_.usual(group) || !has_average(e)) return false;
  if (!is_plain_tensor(grad)) return false;
  DLTensor t;
  const auto tell = types_[static_cast<std::size_t>(e.type)].api->dltensor_from_py_object_no_sync;
  if (tell(grad, &t) != 0) return PyErr_Clear(), false;
  if (!e.form.fits(t)) return false;
  const char* data = static_cast<char*>(t.data) + t.byte_offset;
  if (is_freed(grad, data, t.dtype.bits / 8)) return false;
  if (negation_ != 0 ? TensorMark::has_key(grad, negation_) : has_negation(grad)) return false;
  return plan_.bind_alike(static_cast<std::size_t>(e.tensor), data,
                          state_.params(group).momentum != 0.0, e.first);
}

OptimizerPlan::Bound OptimizerPlan::bind(std::size_t i, PyObject* grad) {
  Entry& e = entries_[i];
  const auto group = static_cast<std::size_t>(e.group);
  const DLPackExchangeAPI* api = types_[static_cast<std::size_t>(e.type)].api;
  if (e.tensor < 0 || state_.torchs(group)) return Bound::torch;
  const auto tensor = static_cast<std::size_t>(e.tensor);
  const bool use_momentum = state_.params(group).momentum != 0.0;
  if (use_momentum && !plan_.has_momentum(tensor)) return Bound::stale;
  if (!has_average(e)) return Bound::stale;

  const auto index = static_cast<std::ptrdiff_t>(i);
  const Extents& param = plan_.param(tensor);
  if (state_.lr_elsewhere(group, param.device)) return Bound::torch;
  const Where where{"grads", index};
  ArrayView view;
  if (param_marks_[tensor]) {
    // It has been found in its place.
  } else if (api != nullptr) {
    if (quick_view(api, e.param, view, Memory::any) != Quick::ok || !param.same(view))
      return Bound::stale;
  } else if (!param.same(view_array(e.param, {"params", index}))) {
    return Bound::stale;
  }

  // A gradient of a subclass may be anything; torch knows what.
  if (!is_plain_tensor(grad)) return Bound::torch;
  if (e.watch_layout && !has_strided_layout(grad)) return Bound::other_layout;
  bool same_layout;
  if (api != nullptr) {  // a parameter's type and torch.Tensor share their exchange table
    const Quick quick = quick_view(api, grad, view, Memory::any);
    if (quick == Quick::no_memory && !stands_for_another(grad)) view_array(grad, where);  // raises
    if (quick != Quick::ok) {
      e.watch_layout = true;
      e.form = TensorForm();
      return has_strided_layout(grad) ? Bound::torch : Bound::other_layout;
    }
    if (has_negation(grad)) return Bound::torch;
    same_layout = param.same_layout(view);
  } else {
    if (!has_strided_layout(grad)) return Bound::other_layout;
    if (has_negation(grad) || stands_for_another(grad)) return Bound::torch;
    view = view_array(grad, where);
    same_layout = param.same_layout(view);
  }
  if (dense_types_row(param.dtype, view.dtype, param.dtype) < 0) return Bound::torch;
  if (plan_.on_device(tensor) && !plan_.contiguous_with(tensor, view, same_layout)) {
    return Bound::torch;
  }
  plan_.bind(tensor, view, same_layout, where, use_momentum, e.first);
  return Bound::yes;
}

// All at once, ahead of the look at them: to reach one takes several lines that lie behind one
// another, and the way to the next one need not wait for them.
void OptimizerPlan::take_gradients() {
  static PyObject* const name = interned("grad");
  const std::size_t count = entries_.size();
  const auto hint = [&](std::size_t i, auto what) {
    if (i >= count) return;
    const Entry& e = entries_[i];
    what(TensorHints(types_[static_cast<std::size_t>(e.type)].known_layout), e.param);
  };
  for (std::size_t i = 0; i < count; ++i) {
    hint(i + 12, [](TensorHints h, PyObject* p) { h.object(p); });
    hint(i + 8, [](TensorHints h, PyObject* p) { h.inside(p); });
    hint(i + 4, [](TensorHints h, PyObject* p) { h.behind(p); });
    const Entry& e = entries_[i];
    const ParamType& type = types_[static_cast<std::size_t>(e.type)];
    if (type.sharded) {
      grads_[i] = shards_.gradient(i);
      continue;
    }
    PyObject* const grad = type.grad != nullptr ? type.grad->get(e.param, type.grad->closure)
                                                : PyObject_GetAttr(e.param, name);
    if (grad == nullptr) throw py::error_already_set();
    grads_[i] = py::reinterpret_steal<py::object>(grad);
    if (grad == Py_None) {
      grads_[i] = py::object();
    } else if (is_plain_tensor(grad)) {
      TensorHints(type.known_layout).inside(grad);
    }
  }
}

py::object OptimizerPlan::step(const py::list& param_groups, const py::dict& state,
                               const GivenOptions* options) {
  refuse_within(work_);
  const AtWork::Scope working(work_);
  Forgetting forgetting(*this);
  std::vector<OptimizerState::Replaced> replaced;
  if (!usable_ || !state_.same(param_groups, state, replaced) || !shards_.same()) return stale_;
  state_.read();
  plan_.begin();
  take_gradients();
  if (!in_place(replaced)) return stale_;
  usable_ = !any_first_;
  std::vector<Remaining> remaining;
  for (std::size_t i = 0; i < entries_.size(); ++i) {
    const Entry& e = entries_[i];
    if (!grads_[i]) continue;
    PyObject* const grad = grads_[i].ptr();
    Bound bound = Bound::yes;
    if (!bind_usual(e, grad)) bound = bind(i, grad);
    if (bound == Bound::stale) return stale_;
    if (bound != Bound::yes) {
      remaining.push_back(
          {e.group, py::reinterpret_borrow<py::object>(param_of(i)), bound == Bound::other_layout});
      grads_[i] = py::object();
    }
  }
  const GivenOptions none;
  const GivenOptions& given = options != nullptr ? *options : none;
  // Where others hold parts of what is measured, they are to be heard first: by each process, even
  // by one that leaves its own parts to torch, as each of them waits for all.
  const bool heard = any_shared_ && measures(state_.groups(), given);
  // On a device gradients are judged all together, or all by torch's code.
  if (plan_.any_on_device()) {
    const bool apart = heard || !remaining.empty() || !plan_.together(state_.groups(), given);
    if (apart && (looks(given) || plan_.counted())) return stale_;
  }
  if (!remaining.empty() || any_first_ || heard) {
    options_.reset();
    if (options != nullptr) options_ = *options;
    forgetting.keep();
    return py::cast(Outcome{Outcome::Kind::remaining, std::move(remaining)});
  }
  look(given, {});
  if (clipping_.skip) return done_;
  announce();
  run();
  return done_;
}

void OptimizerPlan::finish(const std::vector<RowStep*>& row_steps,
                           const std::vector<NewSlot>& slots) {
  refuse_within(work_);
  const AtWork::Scope working(work_);
  const Forgetting forgetting(*this);
  for (const RowStep* step : row_steps) step->announce();
  announce();
  for (RowStep* step : row_steps) step->run();
  run();
  for (const auto& [slot, key, tensor] : slots) set_slot(slot, key.ptr(), tensor);
}

void OptimizerPlan::announce() const {
  if (std::all_of(grads_.begin(), grads_.end(), [](const py::object& g) { return bool(g); })) {
    increment_versions(params_);
  } else {
    py::list stepped;
    for (std::size_t i = 0; i < entries_.size(); ++i) {
      if (grads_[i]) stepped.append(py::handle(param_of(i)));
    }
    increment_versions(stepped);
  }
}

void OptimizerPlan::run() { plan_.run(state_.groups(), clipping_); }

void OptimizerPlan::forget() {
  for (py::object& grad : grads_) grad = py::object();
}

int OptimizerPlan::traverse(visitproc visit, void* arg) const {
  Py_VISIT(params_.ptr());
  for (const auto* all : {&momenta_, &averages_, &counts_, &grads_}) {
    for (const py::object& tensor : *all) Py_VISIT(tensor.ptr());
  }
  if (const int found = shards_.traverse(visit, arg)) return found;
  return state_.traverse(visit, arg);
}

// Leaves a plan that is out of date for good.
void OptimizerPlan::clear() {
  entries_.clear();
  state_.clear();
  momenta_.clear();
  averages_.clear();
  counts_.clear();
  param_marks_.clear();
  momentum_marks_.clear();
  average_marks_.clear();
  usable_ = false;
  grads_.clear();
  params_ = py::list();
  shards_.clear();
}

}  // namespace subgrad
