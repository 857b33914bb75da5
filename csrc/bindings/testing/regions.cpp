#include "bindings/testing/regions.h"

#include <pybind11/stl.h>

#include <string>
#include <vector>

#include "bindings/memory/runs.h"
#include "cpu/support/cpus.h"
#include "cpu/support/huge_pages.h"
#include "cpu/support/regions.h"

namespace subgrad {

void register_regions(py::module_& m) {
  using namespace py::literals;
  py::class_<RegionHistory>(m, "RegionHistory")
      .def(py::init<>())
      .def(
          "begin",
          [](RegionHistory& history, int threads, std::int64_t work, bool several) {
            const auto passage = history.begin(threads, work, several);
            return py::make_tuple(passage.threads, passage.timed);
          },
          "threads"_a, "work"_a, "several"_a)
      .def(
          "end",
          [](RegionHistory& history, int threads, std::int64_t work, std::int64_t ns) {
            history.end({threads, true}, work, ns);
          },
          "threads"_a, "work"_a, "ns"_a)
      .def("alone", &RegionHistory::alone, "work"_a);
  m.attr("MOST_ADAPTIVE_WORK") = RegionHistory::kMost;
  m.def("set_region_times", &set_region_times, "parallel"_a, "alone"_a);
  py::class_<PagesInUse>(m, "PagesInUse")
      .def(py::init<>())
      .def("wanted", &PagesInUse::wanted)
      .def("left", &PagesInUse::left)
      .def(
          "after",
          [](PagesInUse& pages, std::int64_t ns, const std::vector<py::object>& arrays) {
            pages.after(ns, [&] { return runs_of(arrays); });
          },
          "ns"_a, "arrays"_a);
  m.attr("LEAST_PAGED_BYTES") = PagesInUse::kLeast;
  m.def("cpu_quota", &cpu_quota, "own"_a, "mounted"_a);
}

}  // namespace subgrad
