// The module that holds the CUDA kernels. It knows nothing of arrays: it hands its launchers to
// _core, which does (cuda_backend.h). Importing it neither needs nor wakes a driver.
#include <pybind11/pybind11.h>

#include "cuda/api.h"

PYBIND11_MODULE(_cuda, m) {
  m.doc() = "CUDA kernels of subgrad_fast. Private: import subgrad_fast instead.";
  static const subgrad::CudaApi api = {
      SGF_VERSION,
      SGF_CUDA_ARCHITECTURES,
      &subgrad::subgrad_cuda_driver_version,
      &subgrad::subgrad_cuda_device_count,
      &subgrad::subgrad_cuda_device_info,
      &subgrad::subgrad_cuda_check_device,
      &subgrad::subgrad_cuda_error_text,
      &subgrad::subgrad_cuda_dense_step,

      &subgrad::subgrad_cuda_order_range,
      &subgrad::subgrad_cuda_order_indices,
      &subgrad::subgrad_cuda_order_positions,
      &subgrad::subgrad_cuda_uniform_draws,
      &subgrad::subgrad_cuda_alias_draws,
      &subgrad::subgrad_cuda_random_words,
      &subgrad::subgrad_cuda_send_indices,
      &subgrad::subgrad_cuda_gather,
      &subgrad::subgrad_cuda_select_bytes,
      &subgrad::subgrad_cuda_select_find,
      &subgrad::subgrad_cuda_select_write,
      &subgrad::subgrad_cuda_threshold_bytes,
      &subgrad::subgrad_cuda_threshold_begin,
      &subgrad::subgrad_cuda_threshold_finish,
  };
  m.attr("api") = pybind11::capsule(&api, subgrad::kCudaApiName);
}
