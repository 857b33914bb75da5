#include "bindings/clip/options.h"

#include <pybind11/stl.h>

#include <cmath>
#include <vector>

#include "bindings/border/new_arrays.h"
#include "bindings/clip/squares.h"
#include "bindings/dense/sgd_params.h"

namespace subgrad {
namespace {

struct Named {
  const char* name;
  NormScope scope;
};
constexpr Named kScopes[] = {
    {"global", NormScope::global}, {"group", NormScope::group}, {"tensor", NormScope::tensor}};

// A tensor of one float32 on a device stays where it is: to read it, the host would have to wait.
DeviceNumber device_number(const py::object& given) {
  if (PyFloat_CheckExact(given.ptr()) || PyLong_CheckExact(given.ptr())) return {};
  const DLPackExchangeAPI* api = exchange_api(Py_TYPE(given.ptr()));
  ArrayView view;
  if (api == nullptr || quick_view(api, given.ptr(), view, Memory::any) != Quick::ok ||
      view.device == kHost || view.dtype != DType::f32 || view.size() != 1) {
    return {};
  }
  return {given, reinterpret_cast<const float*>(view.data), view.device};
}

double checked_scale(const py::object& given) {
  const double scale = read_number("grad_scale", given.ptr());
  if (!std::isfinite(scale) || scale == 0.0) {
    throw py::value_error("grad_scale: expected a finite number other than 0, got " +
                          std::string(py::repr(given)));
  }
  return scale;
}

GivenOptions make_options(const py::object& scope, const py::object& measure,
                          const py::object& skip_nonfinite, const py::object& grad_scale,
                          const py::object& found_inf) {
  if (!py::isinstance<py::str>(scope)) {
    throw py::type_error("max_norm_scope: expected 'global', 'group' or 'tensor', got " +
                         std::string(py::repr(scope)));
  }
  GivenOptions options;
  options.scope = scope_named(scope.cast<std::string>());
  options.measure = read_flag("measure_norm", measure.ptr());
  options.skip_nonfinite = read_flag("skip_nonfinite", skip_nonfinite.ptr());
  options.scale_there = device_number(grad_scale);
  if (!options.scale_there) options.grad_scale = checked_scale(grad_scale);
  if (!found_inf.is_none()) {
    options.found_there = device_number(found_inf);
    if (!options.found_there) options.found_inf = found_inf.cast<double>() != 0.0;
  }
  return options;
}

// What becomes of gradients that others have measured, by groups with these terms.
Found judge(const std::vector<Measured>& measured, const std::vector<SgdParams>& hyper,
            const GivenOptions* options) {
  std::vector<DenseGroup> groups;
  for (const SgdParams& params : hyper) groups.push_back({params});
  return {
      clipping_of({}, {}, groups, options != nullptr ? options->read() : ClipOptions(), measured),
      {},
      {}};
}

}  // namespace

NormScope scope_named(const std::string& name) {
  for (const Named& known : kScopes) {
    if (name == known.name) return known.scope;
  }
  throw py::value_error("max_norm_scope: expected 'global', 'group' or 'tensor', got " +
                        std::string(py::repr(py::str(name))));
}

ClipOptions GivenOptions::read() const {
  ClipOptions options = *this;
  if (scale_there) options.grad_scale = checked_scale(scale_there.array);
  if (found_there) options.found_inf = read_number("found_inf", found_there.array.ptr()) != 0.0;
  return options;
}

py::object Found::norm_or_array() const {
  if (norm_there) return norm_there[py::int_(0)];
  return measured ? py::object(py::float_(norm)) : py::none();
}

bool Found::skipped() const {
  if (skip || (given.found_there && given.read().found_inf)) return true;
  if (!given.skip_nonfinite || !norm_there) return false;
  return !std::isfinite(read_numbers(norm_there)[0].cast<double>());
}

const GivenOptions* options_of(const py::object& options) {
  return options.is_none() ? nullptr : options.cast<const GivenOptions*>();
}

void register_clip_options(py::module_& m) {
  using namespace py::literals;

  py::class_<GivenOptions>(m, "Options")
      .def(py::init(&make_options), py::kw_only(), "scope"_a = "global", "measure"_a = false,
           "skip_nonfinite"_a = false, "grad_scale"_a = 1.0, "found_inf"_a = py::none())
      .def_property_readonly("may_skip", &GivenOptions::may_skip);

  py::class_<Measured>(m, "Measured")
      .def(py::init(
               [](int group, double sum, bool wide) { return Measured{group, {sum, 0}, wide}; }),
           "group"_a, "squares"_a, "wide"_a)
      .def_readonly("group", &Measured::group)
      .def_property_readonly("squares", [](const Measured& x) { return x.sum.value; })
      .def_readonly("wide", &Measured::wide)
      .def_static(
          "together",
          [](int group, const py::object& squares, bool wide) {
            return Measured{group, read_squares(squares, 1).front(), wide};
          },
          "group"_a, "squares"_a, "wide"_a);
  py::class_<GradientStage>(m, "Stage")
      .def_readonly("scale", &GradientStage::scale)
      .def_readonly("limit", &GradientStage::limit)
      .def_property_readonly("changes_nothing", &GradientStage::changes_nothing);
  py::class_<Found>(m, "Clipping")
      .def_property_readonly("norm", &Found::norm_or_array)
      .def_property_readonly("skip", [](const Found& found) { return found.skip; })
      .def_property_readonly("stages", [](const Found& found) { return found.stages; })
      .def("skipped", &Found::skipped);
  m.def("judge", &judge, "measured"_a, "hyper"_a, "options"_a);
}

}  // namespace subgrad
