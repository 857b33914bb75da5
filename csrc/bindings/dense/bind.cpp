// The dense step's doors: a step on arrays as they come, and a plan that holds them.
#include <memory>
#include <optional>
#include <stdexcept>
#include <utility>

#include "bindings/border/collected.h"
#include "bindings/border/narrowed.h"
#include "bindings/border/new_arrays.h"
#include "bindings/border/registrars.h"
#include "bindings/border/turns.h"
#include "bindings/clip/options.h"
#include "bindings/dense/plan.h"
#include "bindings/dense/sgd_params.h"

namespace subgrad {
namespace {

// One kind of arrays beside the parameters, as many as these, and what errors call them.
struct Companions {
  const char* name;
  std::optional<ArrayList> arrays;
  std::int64_t steps;  // that they hold

  Companions(const char* argument, const py::object& given, std::int64_t held)
      : name(argument), steps(held) {
    if (!given.is_none()) arrays = array_list(given, name);
  }

  explicit operator bool() const { return arrays.has_value(); }
  bool first() const { return !arrays || steps == 0; }
  const py::object& operator[](std::size_t i) const { return arrays->items[i]; }
  Where where(std::size_t i) const { return arrays->where(name, i); }
  ArrayView view(std::size_t i) const { return view_array((*this)[i], where(i), Memory::any); }
  py::list list() const {
    py::list all;
    for (std::size_t i = 0; arrays && i < arrays->items.size(); ++i) all.append((*this)[i]);
    return all;
  }
};

// Parameters, momentum buffers, averages and the plan made for them.
class HeldArrays {
 public:
  HeldArrays(ArrayList params, Companions momenta, Companions averages)
      : params_(std::move(params)), momenta_(std::move(momenta)), averages_(std::move(averages)) {
    for (Companions* all : {&momenta_, &averages_}) {
      if (!*all) continue;
      require_length(*all->arrays, all->name, params_.items.size());
      all->arrays->single = params_.single;
    }
    build();
  }

  const ArrayList& params() const { return params_; }
  const Companions& momenta() const { return momenta_; }
  const Companions& averages() const { return averages_; }

  // Whether every array still is where it was: NumPy arrays can be resized, a tensor's data
  // replaced.
  bool unchanged() const {
    for (std::size_t i = 0; i < params_.items.size(); ++i) {
      const Where where = params_.where("params", i);
      if (!plan_.param(i).same(view_array(params_.items[i], where, Memory::any))) return false;
      if (momenta_ && !plan_.momentum(i).same(momenta_.view(i))) return false;
      if (averages_ && !plan_.average(i).same(averages_.view(i))) return false;
    }
    return true;
  }

  // Looks anew where every array is.
  void build() {
    DensePlan plan;
    py::list versioned;
    const auto announce = [&](const py::object& array) {
      if (has_version(array)) versioned.append(array);
    };
    for (std::size_t i = 0; i < params_.items.size(); ++i) {
      const Where where = params_.where("params", i);
      plan.add(view_array(params_.items[i], where, Memory::any), where, 0);
      announce(params_.items[i]);
      if (momenta_) {
        plan.add_momentum(momenta_.view(i), momenta_.where(i));
        announce(momenta_[i]);
      }
      if (averages_) {
        plan.add_average(averages_.view(i), averages_.where(i), averages_.first());
        announce(averages_[i]);
      }
    }
    plan.seal();
    plan_ = std::move(plan);
    versioned_ = std::move(versioned);
  }

  // The norm of the gradients, or None where nobody asked. The caller holds the gradients and knows
  // where the other arrays are. Null options: as the terms alone say. `lives`: there may be more
  // steps after this one.
  py::object step(const ArrayList& list, const SgdParams& params, const GivenOptions* given,
                  bool lives) {
    require_length(list, "grads", params_.items.size());
    const bool use_momentum = params.momentum != 0.0;
    std::vector<std::shared_ptr<void>> loans;  // memory that nothing else keeps
    plan_.begin();
    for (std::size_t i = 0; i < list.items.size(); ++i) {
      const Where where = list.where("grads", i);
      ArrayView grad = view_array(list.items[i], where, Memory::any);
      if (needs_narrowing(grad, plan_.param(i).dtype)) {
        require_shape_of(plan_.param(i), params_.where("params", i), grad, where);
        grad = narrowed(grad, &plan_.param(i));
      }
      if (grad.owned != nullptr) loans.push_back(grad.owned);
      plan_.bind(i, grad, plan_.param(i).same_layout(grad), where, use_momentum, momenta_.first());
    }
    const std::vector<DenseGroup> groups = {{params}};
    const GivenOptions none;
    const GivenOptions& options = given != nullptr ? *given : none;
    if (lives && options.may_skip()) count_on_device(groups, options);
    if (counts_.data != nullptr) plan_.share_counts(counts_.data);
    Found found;
    if (clips(groups, options) || options.on_device() || plan_.counted()) {
      found = plan_.measure(groups, options);
    }
    py::object norm = found.norm_or_array();
    if (found.skip) return norm;
    if (versioned_.size() > 0) increment_versions(versioned_);
    plan_.run(groups, found);
    if (counts_.data != nullptr) return norm;  // the device counts
    if (use_momentum) ++momenta_.steps;
    if (params.ema_decay != kAbsent) ++averages_.steps;
    return norm;
  }

  // Takes over how many steps the memory holds, where the device has counted them. Waits for it.
  void read_counts() {
    if (counts_.data == nullptr) return;
    const py::list counts = read_numbers(counts_.array);
    momenta_.steps = counts[1].cast<std::int64_t>();
    averages_.steps = counts[3].cast<std::int64_t>();
  }

  int traverse(visitproc visit, void* arg) const {
    for (const ArrayList* list : {&params_, optional(momenta_), optional(averages_)}) {
      if (list == nullptr) continue;
      for (const py::object& array : list->items) Py_VISIT(array.ptr());
    }
    Py_VISIT(versioned_.ptr());
    return 0;
  }

 private:
  // A device alone knows whether a step was skipped there: it counts from now on.
  void count_on_device(const std::vector<DenseGroup>& groups, const GivenOptions& options) {
    if (counts_.data != nullptr || !plan_.any_on_device()) return;
    plan_.require_together(groups, options);
    if (const auto place = plan_.one_device()) {
      counts_ = new_step_counts(*place, momenta_.steps, averages_.steps);
    }
  }

  static const ArrayList* optional(const Companions& all) { return all ? &*all.arrays : nullptr; }

  ArrayList params_;
  Companions momenta_, averages_;
  StepCounts counts_;  // null: the host knows
  DensePlan plan_;
  py::list versioned_;  // the torch tensors that a step writes
};

constexpr const char* kMomenta = "momentum_buffers";
constexpr const char* kAverages = "ema";

// What FusedSGD holds between steps; gradients come with each one. Its calls come one after the
// other, and one that raises has changed nothing.
class HeldPlan {
 public:
  // `make_momenta()` and `make_averages()` give new arrays of zeros, when a step first needs them.
  HeldPlan(const py::object& params, py::object make_momenta, py::object make_averages)
      : make_momenta_(std::move(make_momenta)), make_averages_(std::move(make_averages)) {
    arrays_ =
        std::make_shared<HeldArrays>(array_list(params, "params"), none(kMomenta), none(kAverages));
  }

  // The norm of the gradients, or None where nobody asked.
  py::object step(const py::object& grads, const SgdParams& params, const py::object& options) {
    const Turn turn(turns_);
    if (stepping_.now())
      throw std::runtime_error("grads: an array among them steps its own optimizer");
    const AtWork::Scope stepping(stepping_);
    need(params);
    const std::shared_ptr<HeldArrays> arrays = arrays_;  // whatever an array's own code does to us
    // Held until the step is over, whatever else lets go of them.
    const ArrayList list = array_list(grads, "grads");
    if (!arrays->unchanged()) arrays->build();
    return arrays->step(list, params, options_of(options), true);
  }

  // Makes the arrays that a step with these terms needs.
  void need(const SgdParams& params) {
    const Turn turn(turns_);
    const bool momenta = params.momentum != 0.0 && !arrays_->momenta();
    const bool averages = params.ema_decay != kAbsent && !arrays_->averages();
    if (!momenta && !averages) return;
    arrays_->read_counts();
    Companions m = momenta ? Companions(kMomenta, make_momenta_(), 0) : arrays_->momenta();
    Companions e = averages ? Companions(kAverages, make_averages_(), 0) : arrays_->averages();
    arrays_ = std::make_shared<HeldArrays>(arrays_->params(), std::move(m), std::move(e));
  }

  // Goes on with other arrays, or None, which hold so many steps.
  void hold(const py::object& momenta, std::int64_t steps, const py::object& averages,
            std::int64_t averaged) {
    const Turn turn(turns_);
    arrays_ = std::make_shared<HeldArrays>(arrays_->params(), Companions(kMomenta, momenta, steps),
                                           Companions(kAverages, averages, averaged));
  }

  // What body() returns, called while no other thread steps.
  py::object alone(const py::object& body) {
    const Turn turn(turns_);
    return body();
  }

  py::list momentum_buffers() const { return arrays_->momenta().list(); }
  py::list averages() const { return arrays_->averages().list(); }
  bool first_step() const {
    arrays_->read_counts();
    return arrays_->momenta().first();
  }
  std::int64_t averaged() const {
    arrays_->read_counts();
    return arrays_->averages().steps;
  }

  int traverse(visitproc visit, void* arg) const {
    Py_VISIT(make_momenta_.ptr());
    Py_VISIT(make_averages_.ptr());
    return arrays_ != nullptr ? arrays_->traverse(visit, arg) : 0;
  }
  void clear() {
    arrays_ = std::make_shared<HeldArrays>(ArrayList(), none(kMomenta), none(kAverages));
    make_momenta_ = make_averages_ = py::none();
  }

 private:
  static Companions none(const char* name) { return {name, py::none(), 0}; }

  Turns turns_;
  std::shared_ptr<HeldArrays> arrays_;
  py::object make_momenta_, make_averages_;
  AtWork stepping_;
};

py::object step_once(const py::object& params, const py::object& grads,
                     const py::object& momentum_buffers, const SgdParams& hyper,
                     const py::object& first, const py::object& averages,
                     const py::object& options) {
  const std::int64_t held = read_flag("first_step", first.ptr()) ? 0 : 1;
  HeldArrays arrays(array_list(params, "params"), Companions(kMomenta, momentum_buffers, held),
                    Companions(kAverages, averages, held));
  return arrays.step(array_list(grads, "grads"), hyper, options_of(options), false);
}

}  // namespace

void register_dense(py::module_& m) {
  using namespace py::literals;

  m.def("step", &step_once, "params"_a, "grads"_a, "momentum_buffers"_a, "hyper"_a, "first"_a,
        "averages"_a = py::none(), "options"_a = py::none());

  py::class_<HeldPlan>(m, "Plan", collected<HeldPlan>())
      .def(py::init<const py::object&, py::object, py::object>(), "params"_a, "make_momenta"_a,
           "make_averages"_a)
      .def("step", &HeldPlan::step, "grads"_a, "hyper"_a, "options"_a = py::none())
      .def("need", &HeldPlan::need, "hyper"_a)
      .def("hold", &HeldPlan::hold, "momentum_buffers"_a, "steps"_a, "averages"_a, "averaged"_a)
      .def("alone", &HeldPlan::alone, "body"_a)
      .def_property_readonly("momentum_buffers", &HeldPlan::momentum_buffers)
      .def_property_readonly("averages", &HeldPlan::averages)
      .def_property_readonly("first_step", &HeldPlan::first_step)
      .def_property_readonly("averaged", &HeldPlan::averaged);
}

}  // namespace subgrad
