#include "bindings/clip/options.h"

#include <cmath>

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
                         const py::object& skip_nonfinite, const py::object& grad_scale) {
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
  return options;
}

}  // namespace

NormScope scope_named(const std::string& name) {
  for (const Named& known : kScopes) {
    if (name == known.name) return known.scope;
  }
  throw py::value_error("max_norm_scope: expected 'global', 'group' or 'tensor', got " +
                        std::string(py::repr(py::str(name))));
}

void register_clip_options(py::module_& m) {
  using namespace py::literals;

  py::class_<ClipOptions>(m, "Options")
      .def(py::init(&make_options), py::kw_only(), "scope"_a = "global", "measure"_a = false,
           "skip_nonfinite"_a = false, "grad_scale"_a = 1.0);
}

}  // namespace subgrad
