#include "bindings/optimizer/forget.h"

#include <vector>

#include "bindings/border/extents.h"
#include "bindings/border/gil.h"
#include "bindings/border/gradient_of.h"
#include "bindings/optimizer/group_dict.h"
#include "bindings/optimizer/tensor_hints.h"
#include "cpu/dense/zero.h"

namespace subgrad {
namespace {

// Bytes from which on the GIL is let go: they take longer than to have it again.
constexpr std::int64_t kZeroBytes = 64 << 10;

// Calls visit(param, its list, its place there) for every parameter. Its code, a gradient's
// finalizer say, may change the lists: they are read anew for each.
template <class Visit>
void each_param(const py::object& param_groups, const Visit& visit) {
  static PyObject* const name = interned("params");
  for (const py::handle group : param_groups) {
    const auto list = py::reinterpret_steal<py::object>(PyObject_GetItem(group.ptr(), name));
    if (!list) throw py::error_already_set();
    const auto params = py::reinterpret_steal<py::object>(
        PySequence_Fast(list.ptr(), "params: expected something to iterate over"));
    if (!params) throw py::error_already_set();
    for (Py_ssize_t i = 0; i < PySequence_Fast_GET_SIZE(params.ptr()); ++i) {
      visit(py::reinterpret_borrow<py::object>(PySequence_Fast_GET_ITEM(params.ptr(), i)), params,
            i);
    }
  }
}

// Parameters a few places on are asked for, as far as they are of this type.
void hint_ahead(const TensorHints& hints, PyTypeObject* type, const py::object& params,
                Py_ssize_t i) {
  const auto at = [&](Py_ssize_t k) -> PyObject* {
    if (k >= PySequence_Fast_GET_SIZE(params.ptr())) return nullptr;
    return PySequence_Fast_GET_ITEM(params.ptr(), k);
  };
  if (PyObject* const far = at(i + 12)) hints.object(far);
  if (PyObject* const near = at(i + 8); near != nullptr && Py_TYPE(near) == type)
    hints.inside(near);
  if (PyObject* const next = at(i + 4); next != nullptr && Py_TYPE(next) == type)
    hints.behind(next);
}

// Whether zeros over the memory of a gradient are all that torch would write; if so, its memory. A
// gradient that wants one itself is to be detached, and torch refuses those of inference mode.
bool only_memory(const py::object& grad, Run& run) {
  if (!is_plain_tensor(grad.ptr())) return false;
  if (!has_strided_layout(grad) || has_negation(grad)) return false;
  if (requires_grad(grad) || is_inference(grad)) return false;
  const DLPackExchangeAPI* api = exchange_api(Py_TYPE(grad.ptr()));
  ArrayView view;
  if (api == nullptr || quick_view(api, grad.ptr(), view) != Quick::ok) return false;
  const Extents extents(view);
  run = {extents.data, extents.size * extents.itemsize()};
  return extents.dense();
}

}  // namespace

void forget_gradients(const py::object& param_groups, Turns& turns) {
  static PyObject* const name = interned("grad");
  const Turn turn(turns);
  PyTypeObject* type = nullptr;
  const PyGetSetDef* setter = nullptr;
  TensorHints hints(false);
  each_param(param_groups, [&](const py::object& param, const py::object& params, Py_ssize_t i) {
    if (Py_TYPE(param.ptr()) != type) {
      type = Py_TYPE(param.ptr());
      setter = gradient_setter(type);
      hints = TensorHints(setter != nullptr && has_known_layout(param.ptr()));
    }
    hint_ahead(hints, type, params, i);
    // To set what is None already changes nothing, while to look at a gradient first would cost a
    // fifth of the whole: torch would hand it out to Python once more.
    if (setter != nullptr) {
      if (setter->set(param.ptr(), Py_None, setter->closure) != 0) throw py::error_already_set();
    } else if (!py::getattr(param, name).is_none()) {
      py::setattr(param, name, py::none());
    }
  });
}

py::list zero_gradients(const py::object& param_groups) {
  py::list zeroed, others;
  std::vector<Run> runs;
  std::int64_t bytes = 0;
  GradientOf gradient_of;
  each_param(param_groups, [&](const py::object& param, const py::object&, Py_ssize_t) {
    const auto grad = py::reinterpret_steal<py::object>(gradient_of(param.ptr()));
    if (!grad) throw py::error_already_set();
    if (grad.is_none()) return;
    Run run;
    if (!only_memory(grad, run)) return others.append(grad);
    zeroed.append(grad);
    runs.push_back(run);
    bytes += run.bytes;
  });
  if (!runs.empty()) increment_versions(zeroed);
  without_gil(bytes, kZeroBytes, [&] { write_zeros(runs); });
  return others;
}

}  // namespace subgrad
