#include "bindings/clip/gradients.h"

#include <algorithm>

#include "bindings/border/gradient_of.h"
#include "bindings/border/written_memory.h"
#include "bindings/cuda/backend.h"

namespace subgrad {
namespace {

// Whether the elements are one run of memory, in whatever order of dimensions.
bool one_run(const Extents& x) { return x.row_major() || (x.aligned() && x.dense()); }

bool has_kernels(const ArrayView& view) {
  return view.api != nullptr && view.api->current_work_stream != nullptr &&
         cuda_problem(view.device).empty();
}

}  // namespace

void GradientList::add(py::object array, const ArrayView& view, const Extents& x) {
  if (arrays_.empty()) place_ = Place(view);
  const Layout* layout = nullptr;
  if (!one_run(x)) {
    layouts_.push_back(std::make_unique<const Layout>(x.ndim(), x.shape.data(), x.strides.data(),
                                                      x.strides.data(), x.strides.data()));
    layout = layouts_.back().get();
  }
  gradients_.push_back({x.data, x.dtype, x.size, layout});
  elements_ += x.size;
  arrays_.push_back(std::move(array));
}

// As torch promotes the norms of single gradients.
DType GradientList::norm_dtype() const {
  if (gradients_.empty()) return DType::f32;
  DType widest = gradients_.front().dtype;
  for (const Gradient& g : gradients_) {
    if (g.dtype == DType::f64) return DType::f64;
    if (g.dtype != widest) widest = DType::f32;
  }
  return widest;
}

void GradientList::announce() const {
  py::list changed;
  for (const py::object& array : arrays_) {
    if (has_version(array)) changed.append(array);
  }
  if (changed.size() > 0) increment_versions(changed);
}

ArrayGradients::ArrayGradients(const py::object& argument, const char* name, bool written) {
  const ArrayList arrays = array_list(argument, name);
  const std::size_t count = arrays.items.size();
  std::vector<Where> wheres;
  std::vector<Extents> extents;
  for (std::size_t i = 0; i < count; ++i) {
    wheres.push_back(arrays.where(name, i));
    const ArrayView view = view_array(arrays.items[i], wheres[i], Memory::any);
    extents.emplace_back(view);
    if (!in_place(view)) {
      throw py::value_error(wheres[i].text() + ": expected memory on " +
                            device_text(place().device) + " like " + wheres[0].text() + ", got " +
                            device_text(view.device));
    }
    if (view.device != kHost) {
      require_cuda(Place(view), wheres[i]);
      if (!one_run(extents[i])) refuse_strides(wheres[i], view.device);
    }
    if (written) require_writable(view, extents[i], wheres[i]);
    add(arrays.items[i], view, extents[i]);
  }
  if (!written) return;
  WrittenMemory memory;
  for (std::size_t i = 0; i < count; ++i) memory.add(extents[i], wheres[i]);
  memory.seal();
}

std::optional<TorchGradients> TorchGradients::of_parameters(const py::list& params) {
  TorchGradients found;
  GradientOf gradient_of;
  for (std::size_t i = 0; i < params.size(); ++i) {
    const py::object param = params[i];
    PyObject* const grad = gradient_of(param.ptr());
    if (grad == nullptr) {
      if (exchange_api(Py_TYPE(param.ptr())) != nullptr) throw py::error_already_set();
      PyErr_Clear();  // no tensor: who says so asks in words of its own
      return std::nullopt;
    }
    auto owned = py::reinterpret_steal<py::object>(grad);
    if (!owned.is_none() && !found.take(std::move(owned))) return std::nullopt;
  }
  return found;
}

std::optional<TorchGradients> TorchGradients::of_tensors(const py::list& tensors) {
  TorchGradients found;
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    if (!found.take(tensors[i])) return std::nullopt;
  }
  return found;
}

bool TorchGradients::take(py::object tensor) {
  const DLPackExchangeAPI* const api = exchange_api(Py_TYPE(tensor.ptr()));
  if (api == nullptr || !is_plain_tensor(tensor.ptr())) return false;
  ArrayView view;
  const Quick quick = quick_view(api, tensor.ptr(), view, Memory::any);
  if (quick == Quick::no_memory) {
    view_array(tensor, {"grads", static_cast<std::ptrdiff_t>(gradients().size())});  // raises
  }
  if (quick != Quick::ok) return false;
  const Extents extents(view);
  if (!in_place(view)) return false;
  if (view.device != kHost && (!has_kernels(view) || !one_run(extents))) return false;
  // Negated views are the imaginary parts of conjugates: in one run there is one element at most.
  const bool row_major = extents.row_major();
  if ((!row_major || extents.size <= 1) && has_negation(tensor)) return false;
  overlaps_ = overlaps_ || (!row_major && extents.may_overlap_itself());
  if (extents.size > 0) ranges_.push_back(extents.byte_range());
  add(std::move(tensor), view, extents);
  return true;
}

bool TorchGradients::lie_apart() const {
  if (overlaps_) return false;
  std::vector<Range> ranges = ranges_;
  std::sort(ranges.begin(), ranges.end(),
            [](const Range& a, const Range& b) { return a.begin < b.begin; });
  return std::adjacent_find(ranges.begin(), ranges.end(), [](const Range& a, const Range& b) {
           return b.begin < a.end;
         }) == ranges.end();
}

}  // namespace subgrad
