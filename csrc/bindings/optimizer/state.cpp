#include "bindings/optimizer/state.h"

#include "bindings/border/arrays.h"
#include "bindings/optimizer/group_dict.h"
#include "core/macros.h"

namespace subgrad {
namespace {

PyObject* params_key() {
  static PyObject* const key = interned("params");
  return key;
}

PyObject* lr_key() {
  static PyObject* const key = interned("lr");
  return key;
}

bool is_none(PyObject* item) { return item == nullptr || item == Py_None; }

PyObject* differentiable_key() {
  static PyObject* const key = interned("differentiable");
  return key;
}

}  // namespace

PyObject* momentum_key() {
  static PyObject* const key = interned("momentum_buffer");
  return key;
}

PyObject* average_key() {
  static PyObject* const key = interned("ema");
  return key;
}

void set_slot(const py::object& slots, PyObject* key, const py::object& tensor) {
  const int failed = PyDict_Check(slots.ptr()) ? PyDict_SetItem(slots.ptr(), key, tensor.ptr())
                                               : PyObject_SetItem(slots.ptr(), key, tensor.ptr());
  if (failed != 0) throw py::error_already_set();
}

OptimizerState::OptimizerState(const py::list& param_groups, const py::dict& state) {
  for (const py::handle dict : param_groups) {
    Group group;
    group.dict = py::reinterpret_borrow<py::object>(dict);
    group.params = py::reinterpret_borrow<py::object>(required(dict.ptr(), params_key()));
    for (const py::handle p : group.params) group.items.push_back(p.ptr());
    groups_.push_back(std::move(group));
  }
  read_.resize(groups_.size());
  for (const auto& [param, dict] : state) {
    Slot slot{py::reinterpret_borrow<py::object>(param), py::reinterpret_borrow<py::object>(dict),
              py::object(), py::object()};
    if (PyDict_Check(dict.ptr())) {
      slot.momentum = py::reinterpret_borrow<py::object>(dict_item(dict.ptr(), momentum_key()));
      slot.average = py::reinterpret_borrow<py::object>(dict_item(dict.ptr(), average_key()));
    }
    slots_.push_back(std::move(slot));
  }
}

bool OptimizerState::same_groups(const py::list& param_groups) const {
  if (param_groups.size() != groups_.size()) return false;
  for (std::size_t g = 0; g < groups_.size(); ++g) {
    const Group& group = groups_[g];
    PyObject* dict = PyList_GET_ITEM(param_groups.ptr(), static_cast<Py_ssize_t>(g));
    if (dict != group.dict.ptr() || !PyDict_Check(dict) ||
        dict_item(dict, params_key()) != group.params.ptr()) {
      return false;
    }
    PyObject* params = group.params.ptr();
    if (!PyList_Check(params)) return false;
    if (static_cast<std::size_t>(PyList_GET_SIZE(params)) != group.items.size()) return false;
    for (std::size_t i = 0; i < group.items.size(); ++i) {
      if (PyList_GET_ITEM(params, static_cast<Py_ssize_t>(i)) != group.items[i]) return false;
    }
  }
  return true;
}

bool OptimizerState::same_state(const py::dict& state, std::vector<Replaced>& replaced) {
  if (static_cast<std::size_t>(PyDict_Size(state.ptr())) != slots_.size()) return false;
  for (const Slot& slot : slots_) SGF_PREFETCH(slot.dict.ptr());
  Py_ssize_t position = 0;
  PyObject *param, *dict;
  for (Slot& slot : slots_) {
    if (!PyDict_Next(state.ptr(), &position, &param, &dict)) return false;
    if (param != slot.param.ptr() || dict != slot.dict.ptr()) return false;
    if (!PyDict_Check(dict)) continue;
    const std::uint64_t version = dict_version(dict);
    if (version != 0 && version == slot.version) continue;
    PyObject* const momentum = dict_item(dict, momentum_key());
    if (momentum != slot.momentum.ptr()) {
      if (is_none(momentum) || is_none(slot.momentum.ptr())) return false;
      slot.momentum = py::reinterpret_borrow<py::object>(momentum);
      replaced.push_back({param, slot.momentum});
    }
    if (watches_averages_ && dict_item(dict, average_key()) != slot.average.ptr()) return false;
    slot.version = version;
  }
  return true;
}

// A learning rate that lies on a device stays there: to read it, the host would have to wait.
bool OptimizerState::lr_on_device(std::size_t g, PyObject* lr) {
  read_[g].lr = nullptr;
  if (PyFloat_Check(lr) || PyLong_Check(lr)) return false;
  const DLPackExchangeAPI* api = exchange_api(Py_TYPE(lr));
  ArrayView view;
  if (api == nullptr || quick_view(api, lr, view, Memory::any) != Quick::ok ||
      view.device == kHost || view.dtype != DType::f32 || view.size() != 1) {
    return false;
  }
  if (py::getattr(lr, "requires_grad", py::none()).ptr() == Py_True) return false;
  read_[g].lr = reinterpret_cast<const float*>(view.data);
  groups_[g].lr_device = view.device;
  return true;
}

void OptimizerState::read() {
  for (std::size_t g = 0; g < groups_.size(); ++g) {
    Group& group = groups_[g];
    PyObject* dict = group.dict.ptr();
    const std::uint64_t version = dict_version(dict);
    if (version != 0 && version == group.version) continue;
    group.version = 0;
    bool torchs = truth(dict, differentiable_key());
    const bool on_device = lr_on_device(g, required(dict, lr_key()));
    read_sgd_params(dict, g, !on_device, read_[g].params, torchs);
    group.torchs = torchs;
    if (plain_values(dict, params_key())) group.version = version;
  }
}

int OptimizerState::traverse(visitproc visit, void* arg) const {
  for (const Group& group : groups_) {
    Py_VISIT(group.dict.ptr());
    Py_VISIT(group.params.ptr());
  }
  for (const Slot& slot : slots_) {
    Py_VISIT(slot.param.ptr());
    Py_VISIT(slot.dict.ptr());
    Py_VISIT(slot.momentum.ptr());
    Py_VISIT(slot.average.ptr());
  }
  return 0;
}

void OptimizerState::clear() {
  groups_.clear();
  slots_.clear();
}

}  // namespace subgrad
