#include "bindings/testing/regions.h"

#include <string>

#include "cpu/support/cpus.h"
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
  m.def("cpu_quota", &cpu_quota, "own"_a, "mounted"_a);
}

}  // namespace subgrad
