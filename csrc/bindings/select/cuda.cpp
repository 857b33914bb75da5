// Selection by magnitude on a device; see threshold/cuda.cpp on memory.
#include <pybind11/stl.h>

#include <limits>
#include <optional>
#include <tuple>

#include "bindings/border/extents.h"
#include "bindings/cuda/backend.h"
#include "bindings/registrars.h"
#include "bindings/select/amounts.h"

namespace subgrad {
namespace {

void* at(std::uintptr_t address) { return reinterpret_cast<void*>(address); }

class CudaSelect {
 public:
  // One of `threshold`, `density` and `k` is given.
  CudaSelect(const py::object& x, std::optional<double> threshold, std::optional<double> density,
             std::optional<std::int64_t> k, std::int64_t least_k, bool together, bool narrow)
      : narrow_(narrow) {
    const ArrayList list = array_list(x, "x");
    std::vector<Span> spans;
    std::vector<Where> wheres;
    for (std::size_t i = 0; i < list.items.size(); ++i) {
      arrays_.push_back(list.items[i]);
      wheres.push_back(list.where("x", i));
      const ArrayView view = view_array(list.items[i], wheres[i], Memory::any);
      if (i == 0) {
        device_ = view.device;
        library_ = view.api;
      }
      if (view.device != device_ || view.device == kHost) {
        throw py::value_error(wheres[i].text() + ": expected memory on " + device_text(device_) +
                              " like " + wheres[0].text() + ", got " + device_text(view.device));
      }
      require_cuda(view.device, view.api, wheres[i]);
      const Extents extents(view);
      if (extents.size > 0 && !extents.row_major()) refuse_strides(wheres[i], device_);
      spans.push_back({view.data, view.dtype, view.size()});
      add(spans[i], wheres[i], together);
    }
    if (arrays_.empty()) throw py::value_error("x: expected at least one array");
    if (together) refuse_mixed(spans, wheres);
    std::vector<std::int64_t> sizes(scopes_.size());
    for (const CudaSpan& span : spans_) sizes[static_cast<std::size_t>(span.scope)] += span.n;
    for (std::size_t i = 0; i < scopes_.size(); ++i) {
      const std::string whose = together ? "all arrays" : wheres[i].text();
      if (k.has_value()) require_k(*k, least_k, sizes[i], whose);
      scopes_[i] = {threshold.value_or(0.0), nullptr,
                    threshold.has_value() ? -1
                    : k.has_value()       ? *k
                                          : k_of(*density, sizes[i])};
    }
  }

  // By scope: how much is kept, or -1 where that depends on the elements.
  std::vector<std::int64_t> amounts() const {
    std::vector<std::int64_t> amounts;
    for (const CudaScope& s : scopes_) amounts.push_back(s.k);
    return amounts;
  }

  std::size_t scratch_bytes() const {
    std::size_t bytes = 0;
    launch_cuda(device_, library_, [&](const CudaApi& api, void*) {
      return api.select_bytes(spans_.data(), spans_.size(), scopes_.data(), scopes_.size(), &bytes);
    });
    return bytes;
  }

  // `kept`: 0 where the thresholds are all that is wanted.
  void find(std::uintptr_t scratch, std::uintptr_t kept, std::uintptr_t thresholds) {
    scratch_ = at(scratch);
    const CudaSelectReport report = {static_cast<std::int64_t*>(at(kept)),
                                     static_cast<double*>(at(thresholds)), nullptr};
    launch_cuda(device_, library_, [&](const CudaApi& api, void* stream) {
      return api.select_find(device_, stream, spans_.data(), spans_.size(), scopes_.data(),
                             scopes_.size(), scratch_, &report);
    });
  }

  // Addresses of indices and values, and how many there are of each array.
  void write(const std::vector<std::tuple<std::uintptr_t, std::uintptr_t, std::int64_t>>& outputs) {
    if (outputs.size() != spans_.size()) throw py::value_error("outputs: not one for each array");
    for (std::size_t i = 0; i < outputs.size(); ++i) {
      const auto& [indices, values, capacity] = outputs[i];
      spans_[i].kept = {at(indices), at(values), capacity};
    }
    launch_cuda(device_, library_, [&](const CudaApi& api, void* stream) {
      return api.select_write(device_, stream, spans_.data(), spans_.size(), scopes_.data(),
                              scopes_.size(), scratch_, narrow_ ? 4 : 8);
    });
  }

 private:
  void add(const Span& span, const Where& where, bool together) {
    if (narrow_ && span.n - 1 > std::numeric_limits<std::int32_t>::max()) {
      throw py::value_error("index_dtype: int32 cannot number the " + std::to_string(span.n) +
                            " elements of " + where.text());
    }
    if (scopes_.empty() || !together) scopes_.emplace_back();
    const int scope = static_cast<int>(scopes_.size()) - 1;
    spans_.push_back({span.data, span.n, span.dtype, scope, {nullptr, nullptr, kCudaUnlimited}});
  }

  bool narrow_;
  int device_ = kHost;
  const DLPackExchangeAPI* library_ = nullptr;
  std::vector<py::object> arrays_;  // which keep the memory
  std::vector<CudaSpan> spans_;
  std::vector<CudaScope> scopes_;
  void* scratch_ = nullptr;
};

// Whether any of the arrays is on a GPU. What is no array is on none.
bool on_device(const py::list& arrays) {
  for (const py::handle array : arrays) {
    const DLPackExchangeAPI* api = exchange_api(Py_TYPE(array.ptr()));
    ArrayView view;
    if (api == nullptr || !has_strided_layout(array)) continue;
    quick_view(api, array.ptr(), view, Memory::any);
    if (view.device != kHost) return true;
  }
  return false;
}

}  // namespace

void register_cuda_select(py::module_& m) {
  using namespace py::literals;

  py::class_<CudaSelect>(m, "CudaSelect")
      .def(py::init<const py::object&, std::optional<double>, std::optional<double>,
                    std::optional<std::int64_t>, std::int64_t, bool, bool>(),
           "x"_a, "threshold"_a, "density"_a, "k"_a, "least_k"_a, "together"_a, "narrow"_a)
      .def_property_readonly("amounts", &CudaSelect::amounts)
      .def_property_readonly("scratch_bytes", &CudaSelect::scratch_bytes)
      .def("find", &CudaSelect::find, "scratch"_a, "kept"_a, "thresholds"_a)
      .def("write", &CudaSelect::write, "outputs"_a);
  m.def("on_device", &on_device, "arrays"_a);
}

}  // namespace subgrad
