// The door to the ring that gathers batches.
#include <pybind11/stl.h>

#include "bindings/border/registrars.h"
#include "bindings/loading/ring.h"

namespace subgrad {

void register_loading(py::module_& m) {
  using namespace py::literals;

  m.def("contiguous_rows", &contiguous_rows, "array"_a);
  py::class_<Field>(m, "Field")
      .def_static("pooled", &Field::pooled, "source"_a, "like"_a, "wrap"_a)
      .def_static("made", &Field::made, "source"_a, "make"_a)
      .def_static("indexed", &Field::indexed, "index"_a);
  py::class_<HeldRing>(m, "Ring")
      .def(py::init<std::vector<Field>, std::int64_t, int, int, py::object, const py::object&>(),
           "fields"_a, "rows"_a, "slots"_a, "spare"_a, "pack"_a, "like"_a)
      .def("gather", &HeldRing::gather, "indices"_a)
      .def("submit", &HeldRing::submit, "indices"_a)
      .def("take", &HeldRing::take, "slot"_a)
      .def("cancel", &HeldRing::cancel);
}

}  // namespace subgrad
