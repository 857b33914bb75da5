// The door to the ring that gathers batches.
#include <pybind11/stl.h>

#include "bindings/border/registrars.h"
#include "bindings/loading/ring.h"

namespace subgrad {

void register_loading(py::module_& m) {
  using namespace py::literals;

  m.def("contiguous_rows", &contiguous_rows, "array"_a);
  py::class_<HeldRing>(m, "Ring")
      .def(py::init<const std::vector<py::object>&, std::int64_t, int, const py::object&>(),
           "sources"_a, "rows"_a, "slots"_a, "like"_a)
      .def("bind", &HeldRing::bind, "slot"_a, "outputs"_a, "rows"_a)
      .def("gather", &HeldRing::gather, "slot"_a, "indices"_a)
      .def("submit", &HeldRing::submit, "slot"_a, "indices"_a)
      .def("wait", &HeldRing::wait, "slot"_a)
      .def("cancel", &HeldRing::cancel)
      .def("indices_on_device", &HeldRing::indices_on_device, "slot"_a);
}

}  // namespace subgrad
