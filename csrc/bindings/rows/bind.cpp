// The door to the step on rows.
#include "bindings/border/registrars.h"
#include "bindings/dense/sgd_params.h"
#include "bindings/rows/row_step.h"

namespace subgrad {

void register_rows(py::module_& m) {
  using namespace py::literals;

  py::class_<RowStep>(m, "RowStep")
      .def(py::init<const py::list&, const py::list&, const py::list&, const py::list&, bool,
                    const SgdParams&, bool>(),
           "params"_a, "rows"_a, "values"_a, "momentum_buffers"_a, "single"_a, "hyper"_a,
           "first_step"_a)
      .def("run", [](RowStep& step) {
        step.announce();
        step.run();
      });
}

}  // namespace subgrad
