// Which kernels run and on how many threads, and what this binary is.
#include <pybind11/stl.h>

#include <optional>
#include <string>

#include "bindings/border/generic_array.h"
#include "bindings/border/registrars.h"
#include "bindings/border/turns.h"
#include "bindings/cuda/backend.h"
#include "cpu/kernel_table.h"
#include "cpu/support/cpus.h"
#include "cpu/support/huge_pages.h"
#include "cpu/support/parallel.h"
#include "cpu/support/regions.h"

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
  info["huge_pages"] = name_of(huge_pages());
  info["threads"] = num_threads();
  info["threads_decided_by"] = threads_decided_by();
  info["adaptive"] = adaptive();
  info["loops_alone"] = loops_alone();
  const Cpus found = cpus();
  info["cpu_affinity"] = found.affinity > 0 ? py::object(py::int_(found.affinity)) : py::none();
  info["cpu_quota"] = found.quota > 0.0 ? py::object(py::float_(found.quota)) : py::none();
  return info;
}

// `with turns:` by Python's own calling convention: an optimizer takes its turn at every step.
Turns* turns_of(PyObject* self) {
  auto* const instance = reinterpret_cast<py::detail::instance*>(self);
  return instance->get_value_and_holder().value_ptr<Turns>();
}

PyObject* enter(PyObject* self, PyObject*) {
  try {
    turns_of(self)->take();
    Py_RETURN_NONE;
  } catch (...) {
    py::detail::try_translate_exceptions();
    return nullptr;
  }
}

PyObject* leave(PyObject* self, PyObject* const*, Py_ssize_t) {
  turns_of(self)->give();
  Py_RETURN_NONE;
}

void add_method(const py::handle& type, PyMethodDef* method) {
  PyObject* const made = PyDescr_NewMethod(reinterpret_cast<PyTypeObject*>(type.ptr()), method);
  if (made == nullptr) throw py::error_already_set();
  type.attr(method->ml_name) = py::reinterpret_steal<py::object>(made);
}

void register_turns(py::module_& m) {
  static PyMethodDef enter_method = {"__enter__", &enter, METH_NOARGS, "__enter__($self)\n--\n\n"};
  static PyMethodDef leave_method = {
      "__exit__", reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(&leave)),
      METH_FASTCALL, "__exit__($self, /, *error)\n--\n\n"};
  py::class_<Turns> type(m, "Turns");
  type.def(py::init<>());
  add_method(type, &enter_method);
  add_method(type, &leave_method);
}

}  // namespace

void register_runtime(py::module_& m) {
  using namespace py::literals;
  register_turns(m);
  m.attr("__version__") = SGF_VERSION;
  m.attr("MASKED_ARRAY") = kMaskedArray;
  m.attr("MAX_THREADS") = kMaxThreads;
  m.def("build_info", &build_info);
  m.def("available_isas", &available_isas);
  m.def(
      "set_num_threads",
      [](int n, bool adapt) {
        set_num_threads(n);
        set_adaptive(adapt);
      },
      "n"_a, "adaptive"_a);
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
