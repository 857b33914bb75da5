// Gradients measured and clipped where they are. Numbers have been checked in Python.
#include <pybind11/stl.h>

#include <cmath>
#include <optional>
#include <utility>

#include "bindings/border/gil.h"
#include "bindings/border/registrars.h"
#include "bindings/clip/gradients.h"
#include "bindings/clip/options.h"
#include "core/convert.h"
#include "cpu/clip/norm.h"
#include "cpu/support/spans.h"
#include "rules/clip.h"

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

// In the type that torch's norm of these gradients has, or in f32 where that has 16 bits.
GradientStage stage_of(const GradientList& list, double norm, double max_norm) {
  GradientStage stage;
  stage.scale = list.norm_dtype() == DType::f64
                    ? clip_coefficient<double>(norm, max_norm)
                    : static_cast<double>(clip_coefficient<float>(norm, max_norm));
  return stage;
}

double total_norm(const py::object& arrays, bool largest) {
  return norm_of(ArrayGradients(arrays, "arrays", false), largest);
}

double clip_norm(const py::object& grads, double max_norm, bool largest) {
  const ArrayGradients list(grads, "grads", true);
  const double norm = norm_of(list, largest);
  change(list, stage_of(list, norm, max_norm));
  return norm;
}

void clip_value(const py::object& grads, double limit) {
  change(ArrayGradients(grads, "grads", true), {1.0, limit});
}

// Of torch's tensors: None, and nothing is written, where they are for torch's own code.

using TorchNorm = std::optional<std::pair<double, const char*>>;  // and its dtype

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
  return {{rounded(norm_of(*list, largest), dtype), name_of(dtype)}};
}

// `require_finite`: None where the norm is not.
TorchNorm clip_torch_norm(const py::list& params, double max_norm, bool largest,
                          bool require_finite) {
  const auto list = TorchGradients::of_parameters(params);
  if (!list) return std::nullopt;
  const DType dtype = list->norm_dtype();
  const double norm = norm_of(*list, largest), returned = rounded(norm, dtype);
  const GradientStage stage = stage_of(*list, norm, max_norm);
  if (require_finite && !std::isfinite(returned)) return std::nullopt;
  if (!stage.changes_nothing() && !list->lie_apart()) return std::nullopt;
  change(*list, stage);
  return {{returned, name_of(dtype)}};
}

// Whether it was done.
bool change_torch(const py::list& params, double scale, double limit) {
  const auto list = TorchGradients::of_parameters(params);
  if (!list || !list->lie_apart()) return false;
  change(*list, {scale, limit});
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
