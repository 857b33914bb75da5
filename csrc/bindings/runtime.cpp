// Which kernels run and on how many threads, and what this binary is.
#include <pybind11/stl.h>

#include <optional>
#include <string>

#include "bindings/border/generic_array.h"
#include "bindings/border/registrars.h"
#include "bindings/cuda/backend.h"
#include "cpu/kernel_table.h"
#include "cpu/support/parallel.h"

#if defined(_OPENMP)
#include <omp.h>
#endif

namespace subgrad {
namespace {

std::string compiler() {
#if defined(__clang__)
  return "Clang " __clang_version__;
#elif defined(__GNUC__)
  return "GCC " __VERSION__;
#elif defined(_MSC_VER)
  return "MSVC " + std::to_string(_MSC_FULL_VER);
#else
  return "unknown";
#endif
}

py::list available_isas() {
  py::list names;
  each_available_isa(
      [](const char* name, void* list) { static_cast<py::list*>(list)->append(name); }, &names);
  return names;
}

py::dict build_info() {
  py::dict info;
  info["version"] = SGF_VERSION;
  info["isa"] = kernels().isa;
  info["isas"] = available_isas();
  info["compiler"] = compiler();
  info["build_type"] = SGF_BUILD_TYPE;
#if defined(_OPENMP)
  info["openmp"] = _OPENMP;
#else
  info["openmp"] = py::none();
#endif
  info["cuda"] = cuda_built();
  info["threads"] = num_threads();
  return info;
}

void set_threads(int n) {
  if (n < 0) throw py::value_error("n: expected a number of threads, or 0 to follow OpenMP's");
  set_num_threads(n);
}

}  // namespace

void register_runtime(py::module_& m) {
  using namespace py::literals;
  m.attr("__version__") = SGF_VERSION;
  m.def("build_info", &build_info);
  m.def("available_isas", &available_isas);
  m.def("set_num_threads", &set_threads, "n"_a);
  m.def("get_num_threads", &num_threads);
}

void register_cuda(py::module_& m) {
  using namespace py::literals;
  m.def("info", &cuda_info);
  m.def(
      "problem",
      [](int device) -> std::optional<std::string> {
        const std::string problem = cuda_problem(device);
        return problem.empty() ? std::nullopt : std::optional(problem);
      },
      "device"_a);
  m.def("device_of", &device_of, "array"_a);
}

}  // namespace subgrad
