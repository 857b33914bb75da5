// The thresholded step's door.
#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include <string>
#include <vector>

#include "bindings/registrars.h"
#include "bindings/threshold/arguments.h"
#include "bindings/threshold/plan.h"
#include "cpu/threshold/report.h"
#include "cpu/threshold/threshold.h"

namespace subgrad {
namespace {

Selector::Kind selector_kind(const std::string& name) {
  if (name == "absolute") return Selector::Kind::absolute;
  if (name == "exact") return Selector::Kind::exact;
  if (name == "sampled") return Selector::Kind::sampled;
  throw py::value_error("kind: expected 'absolute', 'exact' or 'sampled', got '" + name + "'");
}

// (indices, values) of every tensor.
py::list selections_of(const ThresholdPlan& plan, const ThresholdResult& result, int index_bytes) {
  py::list selections;
  std::vector<KeptList> lists;
  for (std::size_t i = 0; i < plan.size(); ++i) {
    py::array indices(
        index_bytes == 4 ? py::dtype::of<std::int32_t>() : py::dtype::of<std::int64_t>(),
        result.kept[i]);
    py::array values(plan.type(i) == DType::f64 ? py::dtype::of<double>() : py::dtype::of<float>(),
                     result.kept[i]);
    lists.push_back({static_cast<char*>(indices.mutable_data()),
                     static_cast<char*>(values.mutable_data()), size_of(plan.type(i)),
                     plan.order(i)});
    selections.append(py::make_tuple(indices, values));
  }
  {
    const py::gil_scoped_release release;
    place(result.runs, index_bytes, lists);
  }
  return selections;
}

py::tuple threshold_step(const py::object& params, const py::object& grads,
                         const py::object& residuals, const py::object& momentum_buffers,
                         const std::vector<ThresholdParams>& rows,
                         const std::vector<Selector>& selectors,
                         const std::vector<Placement>& placements, int index_bytes, bool measure,
                         const py::list& versioned) {
  const ThresholdPlan plan(params, grads, residuals, momentum_buffers);
  check_scopes(plan, placements, selectors.size());
  const std::vector<ThresholdSegment> segments = segments_of(plan, rows, placements, index_bytes);
  if (!versioned.empty()) increment_versions(versioned);
  ThresholdResult result;
  {
    const py::gil_scoped_release release;
    result = run_threshold(segments, rows, selectors, {index_bytes, measure});
  }
  py::list energies;
  for (const Energy& e : result.energies) energies.append(py::make_tuple(e.kept, e.rest));
  return py::make_tuple(py::cast(result.kept), py::cast(result.thresholds), energies,
                        index_bytes != 0 ? selections_of(plan, result, index_bytes) : py::list());
}

}  // namespace

void register_threshold(py::module_& m) {
  using namespace py::literals;

  py::class_<ThresholdParams>(m, "ThresholdParams")
      .def(py::init([](double lr, double momentum, double dampening, double weight_decay,
                       bool nesterov, bool maximize, bool decoupled_weight_decay,
                       bool momentum_correction, bool momentum_masking) {
             return ThresholdParams{{lr, momentum, dampening, weight_decay, nesterov, maximize,
                                     decoupled_weight_decay},
                                    momentum_correction,
                                    momentum_masking};
           }),
           "lr"_a, "momentum"_a, "dampening"_a, "weight_decay"_a, "nesterov"_a, "maximize"_a,
           "decoupled_weight_decay"_a, "momentum_correction"_a, "momentum_masking"_a);

  py::class_<Selector>(m, "Selector")
      .def(py::init([](const std::string& kind, double threshold, std::int64_t k) {
             return Selector{selector_kind(kind), threshold, k};
           }),
           "kind"_a, "threshold"_a, "k"_a);

  py::class_<Placement>(m, "Placement")
      .def(py::init([](std::size_t row, std::size_t scope, bool first, bool fresh) {
             return Placement{row, scope, first, fresh};
           }),
           "row"_a, "scope"_a, "first"_a, "fresh"_a);

  m.def("threshold_step", &threshold_step, "params"_a, "grads"_a, "residuals"_a,
        "momentum_buffers"_a, "rows"_a, "selectors"_a, "placements"_a, "index_bytes"_a, "measure"_a,
        "versioned"_a);
  m.def("next_threshold", &next_threshold, "threshold"_a, "kept"_a, "target"_a);
}

}  // namespace subgrad
