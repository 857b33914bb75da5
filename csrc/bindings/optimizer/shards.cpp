#include "bindings/optimizer/shards.h"

#include <structmember.h>

#include "bindings/optimizer/group_dict.h"

namespace subgrad {
namespace {

PyObject* grad_name() {
  static PyObject* const name = interned("grad");
  return name;
}

py::object attribute(PyObject* object, PyObject* name) {
  PyObject* const value = PyObject_GetAttr(object, name);
  if (value == nullptr) throw py::error_already_set();
  return py::reinterpret_steal<py::object>(value);
}

bool same_attribute(const py::object& a, const py::object& b, const char* name) {
  const py::object x = a.attr(name), y = b.attr(name);
  return x.is(y) || x.equal(y);
}

// Whether two specs say the same: which processes, and what each of them holds.
bool alike(const py::object& a, const py::object& b) {
  return same_attribute(a, b, "mesh") && same_attribute(a, b, "placements");
}

}  // namespace

SlotReader::SlotReader(PyTypeObject* type, const char* name) : name_(interned(name)) {
  if (type->tp_getattro != PyObject_GenericGetAttr) return;
  const auto slot = py::getattr(reinterpret_cast<PyObject*>(type), name_, py::none());
  if (Py_TYPE(slot.ptr()) != &PyMemberDescr_Type) return;
  member_ = reinterpret_cast<PyMemberDescrObject*>(slot.ptr())->d_member;
}

py::object SlotReader::operator()(PyObject* object) const {
  if (member_ == nullptr) return attribute(object, name_);
  PyObject* const value = PyMember_GetOne(reinterpret_cast<const char*>(object), member_);
  if (value == nullptr) throw py::error_already_set();
  return py::reinterpret_steal<py::object>(value);
}

void Shards::add(std::size_t entry, const py::object& param, const py::object& shard) {
  if (type_ == nullptr) {
    type_ = Py_TYPE(param.ptr());
    local_ = SlotReader(type_, "_local_tensor");
    spec_ = SlotReader(type_, "_spec");
  } else if (type_ != Py_TYPE(param.ptr())) {
    throw py::type_error("params: distributed tensors of one type are expected");
  }
  all_.resize(entry + 1);
  const py::object spec = spec_(param.ptr());
  all_[entry] = {param, shard, spec, spec};
}

py::object Shards::watch(std::size_t entry, const py::object& tensor) {
  if (!tensor) return tensor;
  const py::object shard = local(entry, tensor);
  if (!shard.is(tensor)) watched_.emplace_back(tensor, shard);
  return shard;
}

bool Shards::same() const {
  for (const Shard& s : all_) {
    if (!s.param) continue;
    if (Py_TYPE(s.param.ptr()) != type_) return false;
    if (!local_(s.param.ptr()).is(s.shard) || !spec_(s.param.ptr()).is(s.spec)) return false;
  }
  for (const auto& [tensor, shard] : watched_) {
    if (Py_TYPE(tensor.ptr()) != type_ || !local_(tensor.ptr()).is(shard)) return false;
  }
  return true;
}

py::object Shards::local(std::size_t entry, const py::object& tensor) const {
  return has(entry) && Py_TYPE(tensor.ptr()) == type_ ? local_(tensor.ptr()) : tensor;
}

py::object Shards::gradient(std::size_t entry) {
  Shard& s = all_[entry];
  py::object grad = attribute(s.param.ptr(), grad_name());
  if (grad.is_none()) return {};
  if (Py_TYPE(grad.ptr()) != type_) return grad;
  const py::object spec = spec_(grad.ptr());
  if (!spec.is(s.spec) && !spec.is(s.grad_spec)) {
    if (alike(spec, s.spec)) {
      s.grad_spec = spec;
    } else if (same_attribute(spec, s.spec, "mesh")) {
      grad = grad.attr("redistribute")(s.spec.attr("mesh"), s.spec.attr("placements"));
      s.param.attr("grad") = grad;
    } else {
      return grad;
    }
  }
  return local_(grad.ptr());
}

int Shards::traverse(visitproc visit, void* arg) const {
  for (const Shard& s : all_) {
    Py_VISIT(s.param.ptr());
    Py_VISIT(s.shard.ptr());
    Py_VISIT(s.spec.ptr());
    Py_VISIT(s.grad_spec.ptr());
  }
  for (const auto& [tensor, shard] : watched_) {
    Py_VISIT(tensor.ptr());
    Py_VISIT(shard.ptr());
  }
  return 0;
}

}  // namespace subgrad
