// Gradients measured and clipped where they are. Numbers have been checked by clip.py.
#include <cmath>

#include "bindings/border/gil.h"
#include "bindings/border/registrars.h"
#include "bindings/clip/gradients.h"
#include "bindings/clip/options.h"
#include "cpu/clip/norm.h"
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
    const SquareSums found = square_sums(list.gradients());
    double all = 0.0;
    for (const double sum : found.sums) all += sum;
    norm = found.norm(all);
  });
  return norm;
}

void change(const GradientList& list, const std::vector<GradientStage>& stages) {
  list.announce(stages);
  without_gil(list.elements(), kStepElements, [&] { clip_gradients(list.gradients(), stages); });
}

double total_norm(const py::object& arrays, bool largest) {
  return norm_of(GradientList(arrays, "arrays", false), largest);
}

// Whether a coefficient is to be computed in f64: where torch's norm of these gradients is f64.
bool any_wide(const GradientList& list) {
  for (const Gradient& g : list.gradients()) {
    if (g.dtype == DType::f64) return true;
  }
  return false;
}

// The norm as it was. `require_finite`: gradients whose norm is not finite are left as they are.
double clip_norm(const py::object& grads, double max_norm, bool largest, bool require_finite) {
  const GradientList list(grads, "grads", true);
  const double norm = norm_of(list, largest);
  if (require_finite && !std::isfinite(norm)) return norm;
  GradientStage stage;
  stage.scale = any_wide(list)
                    ? clip_coefficient<double>(norm, max_norm)
                    : static_cast<double>(clip_coefficient<float>(norm, max_norm));
  if (!stage.changes_nothing()) {
    change(list, std::vector<GradientStage>(list.gradients().size(), stage));
  }
  return norm;
}

void clip_value(const py::object& grads, double limit) {
  const GradientList list(grads, "grads", true);
  GradientStage stage;
  stage.limit = limit;
  if (stage.changes_nothing()) return;
  change(list, std::vector<GradientStage>(list.gradients().size(), stage));
}

}  // namespace

void register_clip(py::module_& m) {
  using namespace py::literals;

  register_clip_options(m);
  m.def("total_norm", &total_norm, "arrays"_a, "largest"_a);
  m.def("clip_norm", &clip_norm, "grads"_a, "max_norm"_a, "largest"_a, "require_finite"_a);
  m.def("clip_value", &clip_value, "grads"_a, "limit"_a);
}

}  // namespace subgrad
