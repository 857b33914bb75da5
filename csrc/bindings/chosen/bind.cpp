// The door to the step on chosen elements.
#include <pybind11/stl.h>

#include "bindings/border/registrars.h"
#include "bindings/chosen/call.h"
#include "bindings/dense/sgd_params.h"

namespace subgrad {

void register_chosen(py::module_& m) {
  using namespace py::literals;

  py::class_<CheckedIndices>(m, "Indices")
      .def(py::init<const py::array&, std::int64_t, const std::string&, const std::string&>(),
           "given"_a, "elements"_a, "where"_a, "whose"_a)
      .def("__len__", &CheckedIndices::size);
  py::class_<ChosenCall>(m, "Call")
      .def(py::init<const GivenOptions*>(), "clip"_a = py::none())
      .def("add", &ChosenCall::add, "params"_a, "grads"_a, "indices"_a, "momentum_buffers"_a,
           "hyper"_a, "first"_a)
      .def("run", &ChosenCall::run,
           "then"_a = std::vector<std::tuple<py::dict, py::object, py::object>>());
  m.def("swap", &swap_values, "params"_a, "indices"_a, "values"_a, "names"_a);
}

}  // namespace subgrad
