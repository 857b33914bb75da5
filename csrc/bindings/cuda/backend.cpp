#include "bindings/cuda/backend.h"

#include <pybind11/gil_safe_call_once.h>

#include <set>
#include <stdexcept>

#include "bindings/border/gil.h"

namespace subgrad {
namespace {

// The launchers of this build, looked for at most once: they cannot come or go.
struct Backend {
  const CudaApi* api = nullptr;
  std::string problem;  // why there are no launchers
};

Backend find_backend() {
  py::module_ module;
  try {
    module = py::module_::import("subgrad_fast._cuda");
  } catch (py::error_already_set& e) {
    if (e.matches(PyExc_ModuleNotFoundError)) {
      return {nullptr, "this build has no CUDA kernels (see SUBGRAD_CUDA)"};
    }
    return {nullptr, std::string("its kernels cannot be loaded: ") + e.what()};
  }
  const auto capsule = module.attr("api").cast<py::capsule>();
  const auto* api = static_cast<const CudaApi*>(PyCapsule_GetPointer(capsule.ptr(), kCudaApiName));
  if (api == nullptr) throw py::error_already_set();
  if (std::string(api->version) != SGF_VERSION) {
    return {nullptr, std::string("its kernels are those of version ") + api->version};
  }
  return {api, ""};
}

// Not a C++ static by itself: to import takes the GIL's turns, and a thread that waits for the
// static with the GIL in hand would wait for ever.
const Backend& backend() {
  PYBIND11_CONSTINIT static py::gil_safe_call_once_and_store<Backend> found;
  return found.call_once_and_store_result(&find_backend).get_stored();
}

std::string version_text(int version) {
  return std::to_string(version / 1000) + "." + std::to_string(version % 1000 / 10);
}

// Why there is no device to be used; empty if there is one.
std::string runtime_problem(const CudaApi& api, int& devices) {
  int driver = 0;
  if (api.driver_version(&driver) != 0 || driver == 0) return "there is no CUDA driver";
  const int error = api.device_count(&devices);
  if (error == 0) return devices > 0 ? "" : "there is no GPU";
  return std::string(api.error_text(error)) + " (driver for CUDA " + version_text(driver) + ")";
}

std::string find_problem(int device) {
  const Backend& found = backend();
  if (found.api == nullptr) return found.problem;
  int devices = 0;
  std::string problem = runtime_problem(*found.api, devices);
  if (problem.empty()) {
    if (const int error = found.api->check_device(device)) problem = found.api->error_text(error);
  }
  return problem;
}

}  // namespace

bool cuda_built() { return backend().api != nullptr; }

// Only what cannot change is remembered: that a device works. A driver may be busy now and not
// later.
std::string cuda_problem(int device) {
  static auto* const working = new std::set<int>();
  if (working->count(device) != 0) return "";
  std::string problem = find_problem(device);
  if (problem.empty()) working->insert(device);
  return problem;
}

py::dict cuda_info() {
  const Backend& found = backend();
  py::dict info;
  py::list devices;
  std::string problem = found.problem;
  info["architectures"] = py::none();
  info["driver"] = py::none();
  if (found.api != nullptr) {
    const CudaApi& api = *found.api;
    info["architectures"] = api.architectures;
    int driver = 0, count = 0;
    if (api.driver_version(&driver) == 0 && driver != 0) info["driver"] = version_text(driver);
    problem = runtime_problem(api, count);
    for (int i = 0; problem.empty() && i < count; ++i) {
      CudaDeviceInfo device{};
      if (api.device_info(i, &device) != 0) continue;
      std::string text = std::string(device.name) + " (compute capability " +
                         std::to_string(device.major) + "." + std::to_string(device.minor) + ")";
      const std::string own_problem = cuda_problem(i);
      if (!own_problem.empty()) text += ": " + own_problem;
      devices.append(text);
    }
  }
  info["devices"] = devices;
  info["problem"] = problem.empty() ? py::object(py::none()) : py::object(py::str(problem));
  return info;
}

void require_cuda(const Place& place, const Where& where) {
  const std::string problem = cuda_problem(place.device);
  if (!problem.empty()) {
    throw py::value_error(where.text() + ": is on " + device_text(place.device) + ", but " +
                          problem);
  }
  if (place.library->current_work_stream == nullptr) {
    throw py::value_error(where.text() + ": its library does not tell the stream it works in");
  }
}

void launch_cuda(const Place& place,
                 const std::function<int(const CudaApi&, void* stream)>& launch) {
  void* stream = nullptr;
  if (place.library->current_work_stream(kDLCUDA, place.device, &stream) != 0) {
    throw py::error_already_set();
  }
  const CudaApi& api = *backend().api;
  int error;
  {
    const WithoutGil released;
    error = launch(api, stream);
  }
  if (error != 0) {
    throw std::runtime_error("CUDA on " + device_text(place.device) + ": " + api.error_text(error));
  }
}

}  // namespace subgrad
