// The dense step's doors: a step on arrays as they come, and a plan that holds them.
#include <memory>
#include <stdexcept>
#include <utility>

#include "bindings/border/collected.h"
#include "bindings/border/registrars.h"
#include "bindings/border/turns.h"
#include "bindings/dense/plan.h"
#include "bindings/dense/sgd_params.h"

namespace subgrad {
namespace {

// Parameters, momentum buffers and the plan made for them.
class HeldArrays {
 public:
  HeldArrays(ArrayList params, ArrayList momenta, bool has_momentum)
      : params_(std::move(params)), momenta_(std::move(momenta)), has_momentum_(has_momentum) {
    if (has_momentum_) require_length(momenta_, "momentum_buffers", params_.items.size());
    build();
  }

  const ArrayList& params() const { return params_; }
  const ArrayList& momenta() const { return momenta_; }
  bool has_momentum() const { return has_momentum_; }

  // The gradients are held until it is over, whatever else lets go of them.
  void step(const py::object& grads, const SgdParams& params, bool first) {
    const ArrayList list = array_list(grads, "grads");
    require_length(list, "grads", params_.items.size());
    if (!unchanged()) build();
    const bool use_momentum = params.momentum != 0.0;
    plan_.begin();
    for (std::size_t i = 0; i < list.items.size(); ++i) {
      const Where where = list.where("grads", i);
      const ArrayView grad = view_array(list.items[i], where, Memory::any);
      plan_.bind(i, grad, plan_.param(i).same_layout(grad), where, use_momentum, first);
    }
    if (versioned_.size() > 0) increment_versions(versioned_);
    plan_.run({{params}});
  }

  int traverse(visitproc visit, void* arg) const {
    for (const ArrayList* list : {&params_, &momenta_}) {
      for (const py::object& array : list->items) Py_VISIT(array.ptr());
    }
    Py_VISIT(versioned_.ptr());
    return 0;
  }

 private:
  static bool same(const Extents& extents, const py::object& array, const Where& where) {
    return extents.same(view_array(array, where, Memory::any));
  }

  // Whether every array still is where it was: NumPy arrays can be resized, a tensor's data
  // replaced.
  bool unchanged() const {
    for (std::size_t i = 0; i < params_.items.size(); ++i) {
      if (!same(plan_.param(i), params_.items[i], params_.where("params", i))) return false;
      if (has_momentum_ &&
          !same(plan_.momentum(i), momenta_.items[i], momenta_.where("momentum_buffers", i))) {
        return false;
      }
    }
    return true;
  }

  void build() {
    DensePlan plan;
    py::list versioned;
    for (std::size_t i = 0; i < params_.items.size(); ++i) {
      const Where where = params_.where("params", i);
      const ArrayView param = view_array(params_.items[i], where, Memory::any);
      plan.add(param, where, 0);
      if (has_version(params_.items[i])) versioned.append(params_.items[i]);
      if (has_momentum_) {
        const Where momentum_where = momenta_.where("momentum_buffers", i);
        const ArrayView momentum = view_array(momenta_.items[i], momentum_where, Memory::any);
        plan.add_momentum(momentum, momentum_where);
        if (has_version(momenta_.items[i])) versioned.append(momenta_.items[i]);
      }
    }
    plan.seal();
    plan_ = std::move(plan);
    versioned_ = std::move(versioned);
  }

  ArrayList params_, momenta_;
  bool has_momentum_;
  DensePlan plan_;
  py::list versioned_;  // the torch tensors that a step writes
};

// What FusedSGD holds between steps; gradients come with each one. Its calls come one after the
// other, and one that raises has changed nothing.
class HeldPlan {
 public:
  // `make_buffers()` gives new momentum buffers of zeros, when a step first needs them.
  HeldPlan(const py::object& params, py::object make_buffers)
      : arrays_(std::make_shared<HeldArrays>(array_list(params, "params"), ArrayList(), false)),
        make_buffers_(std::move(make_buffers)) {}

  void step(const py::object& grads, const SgdParams& params) {
    const Turn turn(turns_);
    if (stepping_.now())
      throw std::runtime_error("grads: an array among them steps its own optimizer");
    const AtWork::Scope stepping(stepping_);
    const bool use_momentum = params.momentum != 0.0;
    if (use_momentum) need_momentum();
    const std::shared_ptr<HeldArrays> arrays = arrays_;  // whatever an array's own code does to us
    arrays->step(grads, params, first_);
    if (use_momentum) first_ = false;
  }

  void need_momentum() {
    const Turn turn(turns_);
    if (!arrays_->has_momentum()) hold(make_buffers_(), true);
  }

  // Goes on with other momentum buffers, or None; `first`: they hold nothing yet.
  void hold(const py::object& buffers, bool first) {
    const Turn turn(turns_);
    ArrayList momenta;
    if (!buffers.is_none()) momenta = array_list(buffers, "momentum_buffers");
    momenta.single = arrays_->params().single;
    arrays_ =
        std::make_shared<HeldArrays>(arrays_->params(), std::move(momenta), !buffers.is_none());
    first_ = first;
  }

  // What body() returns, called while no other thread steps.
  py::object alone(const py::object& body) {
    const Turn turn(turns_);
    return body();
  }

  py::list momentum_buffers() const {
    py::list all;
    for (const py::object& array : arrays_->momenta().items) all.append(array);
    return all;
  }
  bool first_step() const { return first_; }

  int traverse(visitproc visit, void* arg) const {
    Py_VISIT(make_buffers_.ptr());
    return arrays_ != nullptr ? arrays_->traverse(visit, arg) : 0;
  }
  void clear() {
    arrays_ = std::make_shared<HeldArrays>(ArrayList(), ArrayList(), false);
    make_buffers_ = py::none();
  }

 private:
  Turns turns_;
  std::shared_ptr<HeldArrays> arrays_;
  py::object make_buffers_;
  bool first_ = true;
  AtWork stepping_;
};

void step_once(const py::object& params, const py::object& grads,
               const py::object& momentum_buffers, const SgdParams& hyper, bool first) {
  const bool has_momentum = !momentum_buffers.is_none();
  ArrayList param_list = array_list(params, "params");
  ArrayList momenta = has_momentum ? array_list(momentum_buffers, "momentum_buffers") : ArrayList();
  HeldArrays(std::move(param_list), std::move(momenta), has_momentum).step(grads, hyper, first);
}

}  // namespace

void register_dense(py::module_& m) {
  using namespace py::literals;

  m.def("step", &step_once, "params"_a, "grads"_a, "momentum_buffers"_a, "hyper"_a, "first"_a);

  py::class_<HeldPlan>(m, "Plan", collected<HeldPlan>())
      .def(py::init<const py::object&, py::object>(), "params"_a, "make_buffers"_a)
      .def("step", &HeldPlan::step, "grads"_a, "hyper"_a)
      .def("need_momentum", &HeldPlan::need_momentum)
      .def("hold", &HeldPlan::hold, "momentum_buffers"_a, "first"_a)
      .def("alone", &HeldPlan::alone, "body"_a)
      .def_property_readonly("momentum_buffers", &HeldPlan::momentum_buffers)
      .def_property_readonly("first_step", &HeldPlan::first_step);
}

}  // namespace subgrad
