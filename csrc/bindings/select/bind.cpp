// Selection by magnitude: one call each for arrays on the host and on a device.
#include <pybind11/stl.h>

#include <optional>

#include "bindings/border/gil.h"
#include "bindings/border/registrars.h"
#include "bindings/cuda/backend.h"
#include "bindings/select/amounts.h"
#include "bindings/select/operands.h"
#include "cpu/select/select.h"

namespace subgrad {
namespace {

// How much is kept; one of the three is given.
struct Amount {
  std::optional<double> threshold, density;
  std::optional<std::int64_t> k;

  Selector of(std::int64_t elements) const {
    Selector selector;
    if (threshold.has_value()) {
      selector.threshold = *threshold;
      return selector;
    }
    selector.kind = Selector::Kind::exact;
    selector.k = k.has_value() ? *k : k_of(*density, elements);
    return selector;
  }
};

// --- On the host ---------------------------------------------------------------------------------

py::array own(LargeArray<char> memory, const char* dtype, std::int64_t count) {
  char* data = memory.get();
  const py::capsule owner(memory.release(), [](void* p) { FreeMemory()(p); });
  return py::array(py::dtype(dtype), {count}, {}, data, owner);
}

const char* bits_dtype(DType t) { return t == DType::f64 ? "u8" : t == DType::f32 ? "u4" : "u2"; }

py::list select_on_host(SelectOperands& operands, const Amount& amount, bool narrow) {
  const auto scopes = operands.scopes();
  const IndexType type = narrow ? IndexType::i32 : IndexType::i64;
  std::vector<Selection> selections;
  without_gil(operands.elements(), [&] {
    for (const auto& spans : scopes) {
      const Selector selector = amount.of(elements(spans));
      selections.push_back(selector.counts() ? select_top(spans, selector.k, type)
                                             : select_above(spans, selector.threshold, type));
    }
  });
  py::list parts;
  std::size_t array = 0;
  for (std::size_t i = 0; i < scopes.size(); ++i) {
    const double smallest = magnitude_of(selections[i].cut.key, scopes[i]);
    for (std::size_t j = 0; j < scopes[i].size(); ++j, ++array) {
      Selected& s = selections[i].spans[j];
      const Source source = operands.source(array);
      const py::array indices = own(std::move(s.indices), narrow ? "i4" : "i8", s.count);
      const py::array bits = own(std::move(s.values), bits_dtype(scopes[i][j].dtype), s.count);
      parts.append(py::make_tuple(in_library(source, indices),
                                  as_elements_of(operands.given(array), source, bits), smallest));
    }
  }
  return parts;
}

py::object kth_on_host(SelectOperands& operands, std::int64_t k) {
  const auto scopes = operands.scopes();
  std::vector<double> magnitudes;
  without_gil(operands.elements(), [&] {
    for (const auto& spans : scopes) {
      magnitudes.push_back(magnitude_of(kth_magnitude(spans, k).key, spans));
    }
  });
  return py::cast(magnitudes);
}

// --- On a device ---------------------------------------------------------------------------------

// A call's lists for the launchers, its scratch memory and what it found.
class DeviceSelect {
 public:
  DeviceSelect(SelectOperands& operands, const Amount& amount) : place_(operands.place()) {
    for (const auto& spans : operands.scopes()) {
      const int scope = static_cast<int>(scopes_.size());
      scopes_.push_back(amount.of(elements(spans)));
      for (const Span& span : spans) spans_.push_back({span, scope, {}});
    }
    std::size_t bytes = 0;
    launch([&](const CudaApi& api, void*) {
      return api.select_bytes(spans_.data(), spans_.size(), scopes_.data(), scopes_.size(), &bytes);
    });
    scratch_ = new_on_device(place_, kDLBytes, static_cast<std::int64_t>(bytes));
    thresholds_ = new_on_device(place_, dl_type(DType::f64), ssize(scopes_));
  }

  // The k-th magnitudes alone.
  py::object thresholds() {
    find({nullptr, static_cast<double*>(thresholds_.data), nullptr});
    return thresholds_.object;
  }

  py::list select(bool narrow) {
    const NewArray kept = new_on_device(place_, kDLInt64, ssize(spans_));
    find({static_cast<std::int64_t*>(kept.data), static_cast<double*>(thresholds_.data), nullptr});
    const std::vector<std::int64_t> counts = counts_of(kept);
    py::list parts;
    for (std::size_t i = 0; i < spans_.size(); ++i) {
      const NewArray indices = new_on_device(place_, narrow ? kDLInt32 : kDLInt64, counts[i]);
      const NewArray values = new_on_device(place_, dl_type(spans_[i].span.dtype), counts[i]);
      spans_[i].kept = {indices.data, values.data, counts[i]};
      const py::object smallest = thresholds_.object[py::int_(spans_[i].scope)];
      parts.append(py::make_tuple(indices.object, values.object, smallest));
    }
    launch([&](const CudaApi& api, void* stream) {
      return api.select_write(place_.device, stream, spans_.data(), spans_.size(), scopes_.data(),
                              scopes_.size(), scratch_.data, narrow ? 4 : 8);
    });
    return parts;
  }

 private:
  template <class T>
  static std::int64_t ssize(const std::vector<T>& list) {
    return static_cast<std::int64_t>(list.size());
  }

  template <class Launch>
  void launch(const Launch& body) const {
    launch_cuda(place_, body);
  }

  void find(const CudaReport& report) {
    launch([&](const CudaApi& api, void* stream) {
      return api.select_find(place_.device, stream, spans_.data(), spans_.size(), scopes_.data(),
                             scopes_.size(), scratch_.data, &report);
    });
  }

  // By array, how much is kept. Where that depends on the elements the host waits for it.
  std::vector<std::int64_t> counts_of(const NewArray& kept) const {
    std::vector<std::int64_t> counts;
    if (!scopes_[0].counts() || scopes_.size() != spans_.size()) {
      return read_numbers(kept.object).cast<std::vector<std::int64_t>>();
    }
    for (const Selector& scope : scopes_) counts.push_back(scope.k);
    return counts;
  }

  Place place_;
  std::vector<SelectSpan> spans_;
  std::vector<Selector> scopes_;
  NewArray scratch_, thresholds_;
};

// --- The doors -----------------------------------------------------------------------------------

// A list of (indices, values, smallest magnitude kept), one an array.
py::list select(const py::object& x, std::optional<double> threshold, std::optional<double> density,
                std::optional<std::int64_t> k, bool together, bool narrow) {
  SelectOperands operands(x, together);
  if (k.has_value()) operands.require_k(*k, 0);
  if (narrow) operands.require_int32();
  const Amount amount{threshold, density, k};
  return operands.place().on_host() ? select_on_host(operands, amount, narrow)
                                    : DeviceSelect(operands, amount).select(narrow);
}

// By scope: a list of numbers, or an array on the device.
py::object kth_magnitudes(const py::object& x, std::int64_t k, bool together) {
  SelectOperands operands(x, together);
  operands.require_k(k, 1);
  return operands.place().on_host() ? kth_on_host(operands, k)
                                    : DeviceSelect(operands, {{}, {}, k}).thresholds();
}

}  // namespace

void register_select(py::module_& m) {
  using namespace py::literals;

  m.def("select", &select, "x"_a, "threshold"_a, "density"_a, "k"_a, "together"_a, "narrow"_a);
  m.def("kth_magnitudes", &kth_magnitudes, "x"_a, "k"_a, "together"_a);
}

}  // namespace subgrad
