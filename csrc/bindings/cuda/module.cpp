// The module that holds the CUDA kernels. It knows nothing of arrays: it hands its launchers to
// _core, which does (bindings/cuda/backend.h). Importing it neither needs nor wakes a driver.
#include <pybind11/pybind11.h>

#include "cuda/api.h"

PYBIND11_MODULE(_cuda, m) {
  m.doc() = "CUDA kernels of subgrad_fast. Private: import subgrad_fast instead.";
  static const subgrad::CudaApi api = {
      SGF_VERSION,
      SGF_CUDA_ARCHITECTURES,
#define SGF_LAUNCHER(result, name, parameters) &subgrad::subgrad_cuda_##name,
#include "cuda/launchers.inl"
  };
  m.attr("api") = pybind11::capsule(&api, subgrad::kCudaApiName);
}
