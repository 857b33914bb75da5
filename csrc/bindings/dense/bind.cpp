// The dense step's doors: sgd_step, the plan FusedSGD holds, and the plan behind optim.SGD.
#include "bindings/border/buffers.h"
#include "bindings/dense/plan.h"
#include "bindings/optimizer/plan.h"
#include "bindings/registrars.h"

namespace subgrad {
namespace {

SgdParams sgd_params(double lr, double momentum, double dampening, double weight_decay,
                     bool nesterov, bool maximize, bool decoupled_weight_decay, double l1) {
  return {lr, momentum, dampening, weight_decay, nesterov, maximize, decoupled_weight_decay, l1};
}

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
    plan_.run({params});
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

// Python's garbage collector must see through a plan: it holds parameters, which may hold its
// owner.
template <class Plan>
py::custom_type_setup collected() {
  return py::custom_type_setup([](PyHeapTypeObject* heap_type) {
    PyTypeObject& type = heap_type->ht_type;
    type.tp_flags |= Py_TPFLAGS_HAVE_GC;
    type.tp_traverse = [](PyObject* self, visitproc visit, void* arg) {
      Py_VISIT(Py_TYPE(self));
      // A plan whose constructor raised has nothing yet.
      if (!py::detail::is_holder_constructed(self)) return 0;
      return py::cast<const Plan&>(py::handle(self)).traverse(visit, arg);
    };
    type.tp_clear = [](PyObject* self) {
      if (py::detail::is_holder_constructed(self)) py::cast<Plan&>(py::handle(self)).clear();
      return 0;
    };
  });
}

// OptimizerPlan.step by Python's own calling convention: in a training loop over 160 small tensors
// pybind11's dispatch took some 3% of the step.
PyObject* optimizer_step(PyObject* self, PyObject* const* arguments, Py_ssize_t count) {
  try {
    if (count != 2 || !PyList_Check(arguments[0]) || !PyDict_Check(arguments[1])) {
      throw py::type_error("step: expected a list (param_groups) and a dict (state)");
    }
    auto* const instance = reinterpret_cast<py::detail::instance*>(self);
    auto* const plan = instance->get_value_and_holder().value_ptr<OptimizerPlan>();
    if (plan == nullptr) throw py::type_error("step: __init__() was not called");
    return plan
        ->step(py::reinterpret_borrow<py::list>(arguments[0]),
               py::reinterpret_borrow<py::dict>(arguments[1]))
        .release()
        .ptr();
  } catch (...) {
    py::detail::try_translate_exceptions();
    return nullptr;
  }
}

void add_optimizer_step(const py::handle& type) {
  static PyMethodDef method = {
      "step", reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(&optimizer_step)),
      METH_FASTCALL, "step($self, param_groups, state, /)\n--\n\n"};
  PyObject* const step = PyDescr_NewMethod(reinterpret_cast<PyTypeObject*>(type.ptr()), &method);
  if (step == nullptr) throw py::error_already_set();
  type.attr("step") = py::reinterpret_steal<py::object>(step);
}

}  // namespace

void register_dense(py::module_& m) {
  using namespace py::literals;

  m.def(
      "sgd_step",
      [](const py::object& params, const py::object& grads, const py::object& momentum_buffers,
         double lr, double momentum, double dampening, double weight_decay, bool nesterov,
         bool maximize, bool decoupled_weight_decay, double l1, bool first_step) {
        HeldPlan(params, momentum_buffers)
            .step(grads,
                  sgd_params(lr, momentum, dampening, weight_decay, nesterov, maximize,
                             decoupled_weight_decay, l1),
                  first_step);
      },
      "params"_a, "grads"_a, "momentum_buffers"_a, "lr"_a, "momentum"_a, "dampening"_a,
      "weight_decay"_a, "nesterov"_a, "maximize"_a, "decoupled_weight_decay"_a, "l1"_a,
      "first_step"_a);

  py::register_local_exception<Overlap>(m, "OverlapError", PyExc_ValueError);

  m.def("new_buffer", &new_buffer, "like"_a, "zeros"_a = false);

  py::class_<HeldPlan>(m, "HeldPlan", collected<HeldPlan>())
      .def(py::init<const py::object&, const py::object&>(), "params"_a, "momentum_buffers"_a)
      .def(
          "step",
          [](HeldPlan& plan, const py::object& grads, double lr, double momentum, double dampening,
             double weight_decay, bool nesterov, bool maximize, bool decoupled_weight_decay,
             double l1, bool first_step) {
            plan.step(grads,
                      sgd_params(lr, momentum, dampening, weight_decay, nesterov, maximize,
                                 decoupled_weight_decay, l1),
                      first_step);
          },
          "grads"_a, "lr"_a, "momentum"_a, "dampening"_a, "weight_decay"_a, "nesterov"_a,
          "maximize"_a, "decoupled_weight_decay"_a, "l1"_a, "first_step"_a);

  py::class_<OptimizerPlan> plan(m, "OptimizerPlan", collected<OptimizerPlan>());
  plan.def(py::init<const py::list&, const py::dict&, const py::list&>(), "param_groups"_a,
           "state"_a, "entries"_a)
      .def("finish", &OptimizerPlan::finish);
  add_optimizer_step(plan);
}

}  // namespace subgrad
