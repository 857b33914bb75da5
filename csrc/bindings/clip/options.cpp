#include "bindings/clip/options.h"

#include <pybind11/stl.h>

#include <cmath>
#include <optional>
#include <vector>

#include "bindings/dense/sgd_params.h"

namespace subgrad {
namespace {

struct Named {
  const char* name;
  NormScope scope;
};
constexpr Named kScopes[] = {
    {"global", NormScope::global}, {"group", NormScope::group}, {"tensor", NormScope::tensor}};

ClipOptions make_options(const py::object& scope, const py::object& measure,
                         const py::object& skip_nonfinite, const py::object& grad_scale,
                         const py::object& found_inf) {
  if (!py::isinstance<py::str>(scope)) {
    throw py::type_error("max_norm_scope: expected 'global', 'group' or 'tensor', got " +
                         std::string(py::repr(scope)));
  }
  ClipOptions options;
  options.scope = scope_named(scope.cast<std::string>());
  options.measure = read_flag("measure_norm", measure.ptr());
  options.skip_nonfinite = read_flag("skip_nonfinite", skip_nonfinite.ptr());
  options.grad_scale = read_number("grad_scale", grad_scale.ptr());
  if (!std::isfinite(options.grad_scale) || options.grad_scale == 0.0) {
    throw py::value_error("grad_scale: expected a finite number other than 0, got " +
                          std::string(py::repr(grad_scale)));
  }
  if (!found_inf.is_none()) options.found_inf = found_inf.cast<double>() != 0.0;
  return options;
}

// What becomes of gradients that others have measured, by groups with these terms.
Clipping judge(const std::vector<Measured>& measured, const std::vector<SgdParams>& hyper,
               const ClipOptions* options) {
  std::vector<DenseGroup> groups;
  for (const SgdParams& params : hyper) groups.push_back({params});
  return clipping_of({}, {}, groups, options != nullptr ? *options : ClipOptions(), measured);
}

}  // namespace

NormScope scope_named(const std::string& name) {
  for (const Named& known : kScopes) {
    if (name == known.name) return known.scope;
  }
  throw py::value_error("max_norm_scope: expected 'global', 'group' or 'tensor', got " +
                        std::string(py::repr(py::str(name))));
}

const ClipOptions* options_of(const py::object& options) {
  return options.is_none() ? nullptr : options.cast<const ClipOptions*>();
}

void register_clip_options(py::module_& m) {
  using namespace py::literals;

  py::class_<ClipOptions>(m, "Options")
      .def(py::init(&make_options), py::kw_only(), "scope"_a = "global", "measure"_a = false,
           "skip_nonfinite"_a = false, "grad_scale"_a = 1.0, "found_inf"_a = py::none());

  py::class_<Measured>(m, "Measured")
      .def(py::init(
               [](int group, double sum, bool wide) { return Measured{group, {sum, 0}, wide}; }),
           "group"_a, "squares"_a, "wide"_a);
  py::class_<GradientStage>(m, "Stage")
      .def_readonly("scale", &GradientStage::scale)
      .def_readonly("limit", &GradientStage::limit)
      .def_property_readonly("changes_nothing", &GradientStage::changes_nothing);
  py::class_<Clipping>(m, "Clipping")
      .def_property_readonly("norm",
                             [](const Clipping& c) -> std::optional<double> {
                               if (!c.measured) return std::nullopt;
                               return c.norm;
                             })
      .def_readonly("skip", &Clipping::skip)
      .def_readonly("stages", &Clipping::stages);
  m.def("judge", &judge, "measured"_a, "hyper"_a, "options"_a);
}

}  // namespace subgrad
