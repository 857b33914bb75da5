// The door to the step on rows.
#include <pybind11/stl.h>

#include <optional>

#include "bindings/border/registrars.h"
#include "bindings/clip/options.h"
#include "bindings/dense/sgd_params.h"
#include "bindings/rows/history.h"
#include "bindings/rows/row_step.h"

namespace subgrad {
namespace {

// The step with nothing beside it; null options: as the terms alone say. The norm of its gradients,
// or None where nobody asked.
std::optional<double> run(RowStep& step, const GivenOptions* given) {
  const std::vector<DenseGroup> groups = {{step.hyper()}};
  const ClipOptions options = given != nullptr ? given->read() : ClipOptions();
  Clipping clipping;
  if (clips(groups, options)) {
    clipping = clipping_of({}, {}, groups, options, step.measured(0, measures(groups, options)));
  }
  if (!clipping.skip) {
    step.set_stages(std::move(clipping.stages));
    step.announce();
    step.run();
  }
  return clipping.measured ? std::optional(clipping.norm) : std::nullopt;
}

}  // namespace

void register_rows(py::module_& m) {
  using namespace py::literals;

  py::class_<GivenHistory>(m, "RowHistory")
      .def(py::init<std::int64_t>(), "rows"_a)
      .def(py::init<std::int64_t, std::uint32_t>(), "rows"_a, "most_steps"_a)
      .def_property_readonly("rows", [](const GivenHistory& g) { return g.history.rows(); })
      .def_property_readonly("pending", [](const GivenHistory& g) { return g.history.pending(); })
      .def("lacking",
           [](GivenHistory& g) {
             const Turn turn(g.turns);
             return g.history.lacking();
           })
      .def("catch_up", &catch_up, "param"_a, "momentum_buffer"_a, "rows"_a);

  py::class_<RowStep>(m, "RowStep")
      .def(py::init<const py::list&, const py::list&, const py::list&, const py::list&,
                    const py::list&, bool, const SgdParams&, bool>(),
           "params"_a, "rows"_a, "values"_a, "momentum_buffers"_a, "histories"_a, "single"_a,
           "hyper"_a, "first_step"_a)
      .def("first_lacking", &RowStep::first_lacking)
      .def("measured", &RowStep::measured, "group"_a, "sums"_a = true)
      .def("set_stages", &RowStep::set_stages, "stages"_a)
      .def("run", &run, "options"_a = py::none());
}

}  // namespace subgrad
