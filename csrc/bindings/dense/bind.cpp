// The dense step's doors: a step on arrays as they come, and a plan that holds them.
#include "bindings/border/collected.h"
#include "bindings/border/registrars.h"
#include "bindings/dense/plan.h"
#include "bindings/dense/sgd_params.h"

namespace subgrad {
namespace {

// Parameters and momentum buffers held between steps; gradients come with each step.
class HeldPlan {
 public:
  HeldPlan(const py::object& params, const py::object& momentum_buffers)
      : params_(array_list(params, "params")), has_momentum_(!momentum_buffers.is_none()) {
    if (has_momentum_) {
      momenta_ = array_list(momentum_buffers, "momentum_buffers");
      require_length(momenta_, "momentum_buffers", params_.items.size());
    }
    build();
  }

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
  void clear() {
    params_.items.clear();
    momenta_.items.clear();
    versioned_ = py::list();
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
    plan_ = DensePlan();
    versioned_ = py::list();
    for (std::size_t i = 0; i < params_.items.size(); ++i) {
      const Where where = params_.where("params", i);
      const ArrayView param = view_array(params_.items[i], where, Memory::any);
      plan_.add(param, where, 0);
      if (has_version(params_.items[i])) versioned_.append(params_.items[i]);
      if (has_momentum_) {
        const Where momentum_where = momenta_.where("momentum_buffers", i);
        const ArrayView momentum = view_array(momenta_.items[i], momentum_where, Memory::any);
        plan_.add_momentum(momentum, momentum_where);
        if (has_version(momenta_.items[i])) versioned_.append(momenta_.items[i]);
      }
    }
    plan_.seal();
  }

  ArrayList params_, momenta_;
  bool has_momentum_;
  DensePlan plan_;
  py::list versioned_;  // the torch tensors that a step writes
};

}  // namespace

void register_dense(py::module_& m) {
  using namespace py::literals;

  m.def(
      "step",
      [](const py::object& params, const py::object& grads, const py::object& momentum_buffers,
         const SgdParams& hyper,
         bool first) { HeldPlan(params, momentum_buffers).step(grads, hyper, first); },
      "params"_a, "grads"_a, "momentum_buffers"_a, "hyper"_a, "first"_a);

  py::class_<HeldPlan>(m, "Plan", collected<HeldPlan>())
      .def(py::init<const py::object&, const py::object&>(), "params"_a, "momentum_buffers"_a)
      .def("step", &HeldPlan::step, "grads"_a, "hyper"_a, "first"_a);
}

}  // namespace subgrad
