// Gradients measured and clipped where they are. Numbers have been checked in Python.
#include <pybind11/stl.h>

#include <cmath>
#include <optional>
#include <utility>

#include "bindings/border/gil.h"
#include "bindings/border/new_arrays.h"
#include "bindings/border/registrars.h"
#include "bindings/clip/gradients.h"
#include "bindings/clip/options.h"
#include "bindings/cuda/backend.h"
#include "core/convert.h"
#include "cpu/clip/norm.h"
#include "cpu/support/spans.h"

namespace subgrad {
namespace {

double norm_of(const GradientList& list, bool largest) {
  double norm = 0.0;
  without_gil(list.elements(), kStepElements, [&] {
    if (largest) {
      norm = largest_magnitude(list.gradients());
      return;
    }
    SquareSum all;
    for (const SquareSum& sum : square_sums(list.gradients())) all.add(sum);
    norm = all.norm();
  });
  return norm;
}

void change(const GradientList& list, const GradientStage& stage) {
  if (stage.changes_nothing()) return;
  list.announce();
  const Stages stages(list.gradients().size(), stage);
  without_gil(list.elements(), kStepElements, [&] { clip_gradients(list.gradients(), stages); });
}

double clip_coefficient_of(const GradientList& list, double norm, double max_norm) {
  return clip_coefficient(norm, max_norm, list.norm_dtype() == DType::f64);
}

// --- On a device: nothing waits for it -----------------------------------------------------------

// An array of one float64, which the kernels will fill in.
NewArray norm_on_device(const GradientList& list, bool largest) {
  const Place& place = list.place();
  const std::vector<Gradient>& gradients = list.gradients();
  std::size_t bytes = 0;
  launch_cuda(place, [&](const CudaApi& api, void*) {
    return api.clip_bytes(gradients.data(), gradients.size(), 0, &bytes);
  });
  const NewArray scratch = new_on_device(place, kDLBytes, static_cast<std::int64_t>(bytes));
  const NewArray norm = new_on_device(place, dl_type(DType::f64), 1);
  auto* const to = static_cast<double*>(norm.data);
  launch_cuda(place, [&](const CudaApi& api, void* stream) {
    const CudaClip clip;
    return largest ? api.clip_largest(place.device, stream, gradients.data(), gradients.size(),
                                      scratch.data, to)
                   : api.clip_measure(place.device, stream, gradients.data(), gradients.size(),
                                      nullptr, 0, &clip, scratch.data, to);
  });
  return norm;
}

// Null norm: there is no bound on it.
void change_on_device(const GradientList& list, const void* norm, double max_norm, double limit) {
  const std::vector<Gradient>& gradients = list.gradients();
  list.announce();
  launch_cuda(list.place(), [&](const CudaApi& api, void* stream) {
    return api.clip_change(list.place().device, stream, gradients.data(), gradients.size(),
                           static_cast<const double*>(norm), max_norm,
                           list.norm_dtype() == DType::f64, limit);
  });
}

py::object number_of(const NewArray& norm) { return norm.object[py::int_(0)]; }

// --- The doors -----------------------------------------------------------------------------------

py::object total_norm(const py::object& arrays, bool largest) {
  const ArrayGradients list(arrays, "arrays", false);
  if (!list.place().on_host()) return number_of(norm_on_device(list, largest));
  return py::float_(norm_of(list, largest));
}

py::object clip_norm(const py::object& grads, double max_norm, bool largest) {
  const ArrayGradients list(grads, "grads", true);
  if (!list.place().on_host()) {
    const NewArray norm = norm_on_device(list, largest);
    change_on_device(list, norm.data, max_norm, kAbsent);
    return number_of(norm);
  }
  const double norm = norm_of(list, largest);
  change(list, {clip_coefficient_of(list, norm, max_norm)});
  return py::float_(norm);
}

void clip_value(const py::object& grads, double limit) {
  const ArrayGradients list(grads, "grads", true);
  if (list.place().on_host()) return change(list, {1.0, limit});
  change_on_device(list, nullptr, kAbsent, limit);
}

// Of torch's tensors: None, and nothing is written, where they are for torch's own code.

// A number, or float64 on a device, and the dtype of torch's.
using TorchNorm = std::optional<std::pair<py::object, const char*>>;

// As torch returns it: a norm of 16-bit gradients has 16 bits.
double rounded(double norm, DType dtype) {
  with_element(dtype, [&](auto type) {
    using T = decltype(type);
    norm = widen<double>(Narrow<T>::of(static_cast<compute_t<T>>(norm)));
  });
  return norm;
}

TorchNorm torch_norm(const py::list& tensors, bool largest) {
  const auto list = TorchGradients::of_tensors(tensors);
  if (!list) return std::nullopt;
  const DType dtype = list->norm_dtype();
  if (!list->place().on_host()) {
    return {{number_of(norm_on_device(*list, largest)), name_of(dtype)}};
  }
  return {{py::float_(rounded(norm_of(*list, largest), dtype)), name_of(dtype)}};
}

// `require_finite`: None where the norm is not; a device is waited for.
TorchNorm clip_torch_norm(const py::list& params, double max_norm, bool largest,
                          bool require_finite) {
  const auto list = TorchGradients::of_parameters(params);
  if (!list) return std::nullopt;
  const DType dtype = list->norm_dtype();
  if (!list->place().on_host()) {
    if (!list->lie_apart()) return std::nullopt;
    const NewArray norm = norm_on_device(*list, largest);
    if (require_finite) {
      const double value = read_numbers(norm.object)[0].cast<double>();
      if (!std::isfinite(rounded(value, dtype))) return std::nullopt;
    }
    change_on_device(*list, norm.data, max_norm, kAbsent);
    return {{number_of(norm), name_of(dtype)}};
  }
  const double norm = norm_of(*list, largest), returned = rounded(norm, dtype);
  const GradientStage stage{clip_coefficient_of(*list, norm, max_norm)};
  if (require_finite && !std::isfinite(returned)) return std::nullopt;
  if (!stage.changes_nothing() && !list->lie_apart()) return std::nullopt;
  change(*list, stage);
  return {{py::float_(returned), name_of(dtype)}};
}

// Whether it was done.
bool change_torch(const py::list& params, double scale, double limit) {
  const auto list = TorchGradients::of_parameters(params);
  if (!list || !list->lie_apart()) return false;
  if (list->place().on_host()) return change(*list, {scale, limit}), true;
  if (scale != 1.0) return false;  // on a device the kernels work a scale out by themselves
  change_on_device(*list, nullptr, kAbsent, limit);
  return true;
}

}  // namespace

void register_clip(py::module_& m) {
  using namespace py::literals;

  register_clip_options(m);
  m.def("total_norm", &total_norm, "arrays"_a, "largest"_a);
  m.def("clip_norm", &clip_norm, "grads"_a, "max_norm"_a, "largest"_a);
  m.def("clip_value", &clip_value, "grads"_a, "limit"_a);
  m.def("torch_norm", &torch_norm, "tensors"_a, "largest"_a);
  m.def("clip_torch_norm", &clip_torch_norm, "params"_a, "max_norm"_a, "largest"_a,
        "require_finite"_a);
  m.def("change_torch", &change_torch, "params"_a, "scale"_a = 1.0, "limit"_a = kAbsent);
}

}  // namespace subgrad
