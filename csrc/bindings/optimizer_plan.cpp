#include "bindings/optimizer_plan.h"

#include "bindings/buffers.h"
#include "bindings/group_dict.h"
#include "core/macros.h"

namespace subgrad {
namespace {

// Marks the plan as in use for as long as the GIL may be released inside it.
struct Busy {
  bool& flag;
  explicit Busy(bool& f) : flag(f) {
    if (flag) throw std::runtime_error("this optimizer is already stepping in another thread");
    flag = true;
  }
  ~Busy() { flag = false; }
};

// The C function behind a tensor type's `grad`, called without the look-up that an attribute costs,
// or null where the type is not plain: its gradient is then asked for like any attribute.
PyGetSetDef* gradient_getter(PyTypeObject* type) {
  if (type->tp_getattro != PyObject_GenericGetAttr) return nullptr;
  const auto grad = py::getattr(reinterpret_cast<PyObject*>(type), "grad", py::none());
  if (Py_TYPE(grad.ptr()) != &PyGetSetDescr_Type) return nullptr;
  return reinterpret_cast<PyGetSetDescrObject*>(grad.ptr())->d_getset;
}

// Kernels on a GPU know no strides; torch's do.
bool steppable(const py::object& param, const Where& where) {
  const ArrayView view = view_array(param, where, Memory::any);
  return view.device == kHost || Extents(view).dense();
}

// The form of a parameter whose gradients can be bound without a closer look, once they have it
// too.
TensorForm usual_form(PyObject* param, const DLPackExchangeAPI* api) {
  DLTensor t;
  if (api == nullptr || api->dltensor_from_py_object_no_sync(param, &t) != 0) {
    PyErr_Clear();
    return {};
  }
  return t.device.device_type == kDLCPU ? TensorForm(t) : TensorForm();
}

PyObject* tensor_type() {
  static PyObject* const type = py::getattr(py::module_::import("torch"), "Tensor").release().ptr();
  return type;
}

PyObject* momentum_key() {
  static PyObject* const key = interned("momentum_buffer");
  return key;
}

}  // namespace

OptimizerPlan::OptimizerPlan(const py::list& param_groups, const py::dict& state,
                             const py::list& entries) {
  read_groups(param_groups);
  released_ = buffers_released();  // read before anything is looked at
  for (const py::handle item : entries) {
    const auto entry = py::reinterpret_borrow<py::tuple>(item);
    const py::object param = entry[1], momentum = entry[2];
    const auto index = static_cast<std::ptrdiff_t>(entries_.size());
    PyTypeObject* const type = Py_TYPE(param.ptr());
    Entry e;
    e.param = param.ptr();
    e.api = exchange_api(type);
    e.grad = gradient_getter(type);
    e.group = entry[0].cast<int>();
    e.first = entry[3].cast<bool>();
    params_.append(param);
    const Where param_where{"params", index};
    if (entry[4].cast<bool>() && steppable(param, param_where)) {
      e.tensor = static_cast<int>(plan_.size());
      plan_.add(view_array(param, param_where, Memory::any), param_where, e.group);
      if (!momentum.is_none()) {
        const Where where{"momentum_buffers", index};
        const ArrayView view = view_array(momentum, where, Memory::any);
        plan_.add_momentum(view, where);
        momenta_.push_back(momentum);
        e.momentum = momentum.ptr();
        if (auto buffer = find_buffer(view.data)) {
          buffers_.push_back(std::move(buffer));
        } else {
          e.foreign = true;
        }
      }
      const auto tensor = static_cast<std::size_t>(e.tensor);
      const Extents& extents = plan_.param(tensor);
      if (!e.foreign && plan_.one_run(tensor) && extents.size > 0) {
        e.data = extents.data;
        e.form = usual_form(e.param, e.api);
      }
    }
    entries_.push_back(e);
  }
  plan_.seal();
  for (const auto& [param, dict] : state) {
    StateItem item{py::reinterpret_borrow<py::object>(param),
                   py::reinterpret_borrow<py::object>(dict), py::object()};
    if (PyDict_Check(dict.ptr())) {
      item.momentum = py::reinterpret_borrow<py::object>(dict_item(dict.ptr(), momentum_key()));
    }
    state_.push_back(std::move(item));
  }
}

void OptimizerPlan::read_groups(const py::list& param_groups) {
  static PyObject* const key = interned("params");
  for (const py::handle dict : param_groups) {
    Group group;
    group.dict = py::reinterpret_borrow<py::object>(dict);
    group.params = py::reinterpret_borrow<py::object>(required(dict.ptr(), key));
    for (const py::handle p : group.params) group.items.push_back(p.ptr());
    groups_.push_back(std::move(group));
  }
  rows_.resize(groups_.size());
  device_lr_.resize(groups_.size());
  lr_device_.resize(groups_.size());
  torch_rows_.resize(groups_.size());
  usual_groups_.resize(groups_.size());
}

// Pointer comparisons over the lists themselves: no tensor is touched.
bool OptimizerPlan::same_groups(const py::list& param_groups) const {
  static PyObject* const key = interned("params");
  if (param_groups.size() != groups_.size()) return false;
  for (std::size_t g = 0; g < groups_.size(); ++g) {
    const Group& group = groups_[g];
    PyObject* dict = PyList_GET_ITEM(param_groups.ptr(), static_cast<Py_ssize_t>(g));
    if (dict != group.dict.ptr() || dict_item(dict, key) != group.params.ptr()) return false;
    PyObject* params = group.params.ptr();
    if (!PyList_Check(params)) return false;
    if (static_cast<std::size_t>(PyList_GET_SIZE(params)) != group.items.size()) return false;
    for (std::size_t i = 0; i < group.items.size(); ++i) {
      if (PyList_GET_ITEM(params, static_cast<Py_ssize_t>(i)) != group.items[i]) return false;
    }
  }
  return true;
}

// The state is what it was when every key, every dict and every buffer is the same object. The plan
// holds references to all of them, so that an address cannot come back as another object.
bool OptimizerPlan::same_state(const py::dict& state) {
  if (static_cast<std::size_t>(PyDict_Size(state.ptr())) != state_.size()) return false;
  for (const StateItem& item : state_) SGF_PREFETCH(item.dict.ptr());
  Py_ssize_t position = 0;
  PyObject *param, *dict;
  for (StateItem& item : state_) {
    if (!PyDict_Next(state.ptr(), &position, &param, &dict)) return false;
    if (param != item.param.ptr() || dict != item.dict.ptr()) return false;
    if (!PyDict_Check(dict)) continue;
    const std::uint64_t version = dict_version(dict);
    if (version != 0 && version == item.version) continue;
    if (dict_item(dict, momentum_key()) != item.momentum.ptr()) return false;
    item.version = version;
  }
  return true;
}

bool OptimizerPlan::same_momentum(const Entry& e) const {
  const Extents& momentum = plan_.momentum(static_cast<std::size_t>(e.tensor));
  const DLPackExchangeAPI* api = exchange_api(Py_TYPE(e.momentum));
  ArrayView view;
  if (api == nullptr) return momentum.same(view_array(e.momentum, {"momentum_buffers"}));
  return quick_view(api, e.momentum, view, Memory::any) == Quick::ok && momentum.same(view);
}

// Whether all momentum memory of ours is where it was. As long as no tensor anywhere has let go of
// any such memory, it is.
bool OptimizerPlan::same_buffers() {
  const std::uint64_t released = buffers_released();
  if (released == released_) return true;
  for (const Entry& e : entries_) {
    if (e.momentum != nullptr && !e.foreign && !same_momentum(e)) return false;
  }
  released_ = released;
  return true;
}

// A learning rate that lies on a device stays there: to read it, the host would have to wait.
bool OptimizerPlan::lr_on_device(std::size_t g, PyObject* lr) {
  device_lr_[g] = nullptr;
  if (PyFloat_Check(lr) || PyLong_Check(lr)) return false;
  const DLPackExchangeAPI* api = exchange_api(Py_TYPE(lr));
  ArrayView view;
  if (api == nullptr || quick_view(api, lr, view, Memory::any) != Quick::ok ||
      view.device == kHost || view.dtype != DType::f32 || view.size() != 1) {
    return false;
  }
  if (py::getattr(lr, "requires_grad", py::none()).ptr() == Py_True) return false;
  device_lr_[g] = reinterpret_cast<const float*>(view.data);
  lr_device_[g] = view.device;
  return true;
}

void OptimizerPlan::read_rows() {
  static PyObject *const
      lr = interned("lr"),
      *const momentum = interned("momentum"), *const dampening = interned("dampening"),
      *const weight_decay = interned("weight_decay"), *const nesterov = interned("nesterov"),
      *const maximize = interned("maximize"), *const differentiable = interned("differentiable");
  for (std::size_t g = 0; g < groups_.size(); ++g) {
    PyObject* dict = groups_[g].dict.ptr();
    SgdParams& row = rows_[g];
    bool torchs = truth(dict, differentiable);
    row.lr = lr_on_device(g, required(dict, lr)) ? 0.0 : number(dict, lr, torchs);
    row.momentum = number(dict, momentum, torchs);
    row.dampening = number(dict, dampening, torchs);
    row.weight_decay = number(dict, weight_decay, torchs);
    row.nesterov = truth(dict, nesterov);
    row.maximize = truth(dict, maximize);
    row.l1 = l1_of(dict, g, torchs);
    torch_rows_[g] = torchs;
    usual_groups_[g] = !torchs && device_lr_[g] == nullptr;
  }
}

// The way that nearly every gradient of nearly every step takes: the parameter is where it was, and
// the gradient is a plain tensor laid out like it. False: bind() is to look closer.
bool OptimizerPlan::bind_usual(const Entry& e, PyObject* grad) {
  const auto group = static_cast<std::size_t>(e.group);
  if (!e.form || e.watch_layout || !usual_groups_[group]) return false;
  if (reinterpret_cast<PyObject*>(Py_TYPE(grad)) != tensor_type()) return false;
  DLTensor t;
  const auto tell = e.api->dltensor_from_py_object_no_sync;
  if (tell(e.param, &t) != 0) return PyErr_Clear(), false;
  if (static_cast<char*>(t.data) + t.byte_offset != e.data || !e.form.fits(t)) return false;
  if (tell(grad, &t) != 0) return PyErr_Clear(), false;
  if (t.data == nullptr || !e.form.fits(t)) return false;
  const char* data = static_cast<char*>(t.data) + t.byte_offset;
  return plan_.bind_alike(static_cast<std::size_t>(e.tensor), data, rows_[group].momentum != 0.0,
                          e.first);
}

OptimizerPlan::Bound OptimizerPlan::bind(std::size_t i, py::object grad) {
  Entry& e = entries_[i];
  const auto group = static_cast<std::size_t>(e.group);
  if (e.tensor < 0 || torch_rows_[group]) return Bound::torch;
  const auto tensor = static_cast<std::size_t>(e.tensor);
  const bool use_momentum = rows_[group].momentum != 0.0;
  if (use_momentum && !plan_.has_momentum(tensor)) return Bound::stale;

  const auto index = static_cast<std::ptrdiff_t>(i);
  const Extents& param = plan_.param(tensor);
  if (device_lr_[group] != nullptr && lr_device_[group] != param.device) return Bound::torch;
  const Where where{"grads", index};
  ArrayView view;
  if (e.api != nullptr) {
    if (quick_view(e.api, e.param, view, Memory::any) != Quick::ok || !param.same(view))
      return Bound::stale;
  } else if (!param.same(view_array(e.param, {"params", index}))) {
    return Bound::stale;
  }
  if (e.foreign && use_momentum && !same_momentum(e)) return Bound::stale;

  // A gradient of a subclass may be anything; torch knows what.
  if (reinterpret_cast<PyObject*>(Py_TYPE(grad.ptr())) != tensor_type()) return Bound::torch;
  if (e.watch_layout && !has_strided_layout(grad)) return Bound::sparse;
  bool same_layout;
  if (e.api != nullptr) {  // a parameter's type and torch.Tensor share their exchange table
    const Quick quick = quick_view(e.api, grad.ptr(), view, Memory::any);
    if (quick == Quick::no_memory) view_array(grad, where);  // raises
    if (quick != Quick::ok) {
      e.watch_layout = true;
      return has_strided_layout(grad) ? Bound::torch : Bound::sparse;
    }
    // Negated views come from the imaginary part of a conjugate, whose strides no dense parameter
    // has, save where there are none. Asking only then keeps the question off the common path.
    same_layout = param.same_layout(view);
    const bool ask = !same_layout || view.ndim == 0 || !plan_.one_run(tensor);
    if (ask && has_negation(grad)) return Bound::torch;
  } else {
    if (!has_strided_layout(grad)) return Bound::sparse;
    if (has_negation(grad)) return Bound::torch;
    view = view_array(grad, where);
    same_layout = param.same_layout(view);
  }
  if (dense_types_row(param.dtype, view.dtype, param.dtype) < 0) return Bound::torch;
  if (plan_.on_device(tensor) && !plan_.contiguous_with(tensor, view, same_layout)) {
    return Bound::torch;
  }
  plan_.bind(tensor, view, same_layout, where, use_momentum, e.first);
  grads_.push_back(std::move(grad));
  return Bound::yes;
}

py::object OptimizerPlan::step(const py::list& param_groups, const py::dict& state) {
  static PyObject* const grad_name = interned("grad");
  const Busy busy(busy_);
  if (!same_groups(param_groups) || !same_state(state) || !same_buffers()) {
    return py::bool_(false);
  }
  read_rows();
  plan_.begin();
  grads_.clear();
  stepped_.clear();
  py::list leftover;
  for (std::size_t i = 0; i < entries_.size(); ++i) {
    const Entry& e = entries_[i];
    PyObject* grad = e.grad != nullptr ? e.grad->get(e.param, e.grad->closure)
                                       : PyObject_GetAttr(e.param, grad_name);
    if (grad == nullptr) throw py::error_already_set();
    auto owner = py::reinterpret_steal<py::object>(grad);
    if (grad == Py_None) continue;
    if (bind_usual(e, grad)) {
      grads_.push_back(std::move(owner));
      stepped_.push_back(e.param);
      continue;
    }
    const Bound bound = bind(i, std::move(owner));
    switch (bound) {
      case Bound::yes:
        stepped_.push_back(e.param);
        break;
      case Bound::torch:
      case Bound::sparse:
        leftover.append(py::make_tuple(e.group, py::handle(e.param), bound == Bound::sparse));
        break;
      case Bound::stale:
        return py::bool_(false);
    }
  }
  if (!leftover.empty()) return leftover;
  run();
  return py::none();
}

void OptimizerPlan::finish() {
  const Busy busy(busy_);
  run();
}

void OptimizerPlan::run() {
  if (stepped_.size() == entries_.size()) {
    increment_versions(params_);
  } else {
    py::list stepped;
    for (PyObject* param : stepped_) stepped.append(py::handle(param));
    increment_versions(stepped);
  }
  plan_.run(rows_, device_lr_);
  grads_.clear();
}

int OptimizerPlan::traverse(visitproc visit, void* arg) const {
  Py_VISIT(params_.ptr());
  for (const Group& group : groups_) {
    Py_VISIT(group.dict.ptr());
    Py_VISIT(group.params.ptr());
  }
  for (const StateItem& item : state_) {
    Py_VISIT(item.param.ptr());
    Py_VISIT(item.dict.ptr());
    Py_VISIT(item.momentum.ptr());
  }
  for (const py::object& momentum : momenta_) Py_VISIT(momentum.ptr());
  for (const py::object& grad : grads_) Py_VISIT(grad.ptr());
  return 0;
}

// Leaves a plan that is out of date for good.
void OptimizerPlan::clear() {
  entries_.clear();
  groups_.clear();
  state_.clear();
  momenta_.clear();
  grads_.clear();
  stepped_.clear();
  params_ = py::list();
}

}  // namespace subgrad
