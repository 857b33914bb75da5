// Where memory lies: huge pages under arrays, and what malloc keeps.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <vector>

#include "bindings/border/gil.h"
#include "bindings/border/registrars.h"
#include "bindings/memory/runs.h"
#include "cpu/support/allocator.h"
#include "cpu/support/huge_pages.h"

namespace subgrad {
namespace {

std::int64_t use_huge_pages(const std::vector<py::object>& arrays) {
  const std::vector<ByteRun> runs = runs_of(arrays);
  if (huge_pages() == HugePages::off) return 0;
  const WithoutGil released;
  return collapse_all(runs);
}

// The bytes of arrays, and how many of them lie on huge pages; None where the system does not tell.
py::tuple share_on_huge_pages(const std::vector<py::object>& arrays) {
  const std::vector<ByteRun> runs = runs_of(arrays);
  std::int64_t bytes = 0;
  for (const ByteRun& run : runs) bytes += run.bytes;
  const std::int64_t huge = bytes_on_huge_pages(runs);
  return py::make_tuple(bytes, huge < 0 ? py::object(py::none()) : py::object(py::int_(huge)));
}

void advise(const py::object& array) {
  for (const ByteRun& run : runs_of({array})) {
    advise_huge(run.begin, static_cast<std::size_t>(run.bytes));
  }
}

}  // namespace

void register_memory(py::module_& m) {
  using namespace py::literals;
  m.def("use_huge_pages", &use_huge_pages, "arrays"_a);
  m.def("share_on_huge_pages", &share_on_huge_pages, "arrays"_a);
  m.def("advise", &advise, "array"_a);
  m.def("allocator", [] {
    const Allocator found = allocator();
    return py::make_tuple(found.name, found.adjustable);
  });
  m.def("keep_freed_memory", &keep_freed_memory);
  m.def("return_freed_memory", &return_freed_memory);
  m.def("reserve_heap", &reserve_heap, "size"_a);
}

}  // namespace subgrad
