// The CUDA launchers as plain C: raw pointers, sizes, plain structs and a stream. Nothing here
// needs a CUDA header, so the bindings include this file and no other of the layer.
//
// Every call returns 0 or the number of a CUDA error, works on the device and in the stream that it
// is given, never waits for the device and allocates nothing, so it can be captured in a graph.
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/types.h"

namespace subgrad {

// One tensor's part of a dense step. All operands are contiguous, in the same order.
struct CudaDenseTensor {
  void* param;
  const void* grad;
  void* momentum;  // null: the rule has none
  std::int64_t n;  // elements
  int params_row;  // into the hyper-parameter rows
  int types_row;   // into kDenseTypes
  bool first;      // the momentum buffer holds nothing yet
};

struct CudaDenseRow {
  SgdParams params;
  const float* lr;  // in device memory, read in place of params.lr when the step runs; or null
};

// What a whole step may read from device memory. Null: not used.
struct CudaDenseOptions {
  const float* grad_scale;  // gradients are multiplied by 1 / *grad_scale
  const float* found_inf;   // unless it is 0, nothing is written
};

struct CudaDeviceInfo {
  char name[256];
  int major, minor;  // compute capability
  int multiprocessors;
};

extern "C" {

// The driver's version as major * 1000 + minor * 10; 0 without a driver.
int subgrad_cuda_driver_version(int* version);
int subgrad_cuda_device_count(int* count);
int subgrad_cuda_device_info(int device, CudaDeviceInfo* info);
// Whether this build has kernels that the device can run.
int subgrad_cuda_check_device(int device);
const char* subgrad_cuda_error_text(int error);

int subgrad_cuda_dense_step(int device, void* stream, const CudaDenseTensor* tensors,
                            std::size_t count, const CudaDenseRow* rows,
                            const CudaDenseOptions* options);
}

// The same as a table: the module that has the kernels hands it to the one that knows Python's
// arrays. Both come from one build, which `version` is there to check.
struct CudaApi {
  const char* version;
  const char* architectures;
  decltype(&subgrad_cuda_driver_version) driver_version;
  decltype(&subgrad_cuda_device_count) device_count;
  decltype(&subgrad_cuda_device_info) device_info;
  decltype(&subgrad_cuda_check_device) check_device;
  decltype(&subgrad_cuda_error_text) error_text;
  decltype(&subgrad_cuda_dense_step) dense_step;
};
inline constexpr const char* kCudaApiName = "subgrad_fast.cuda_api";

}  // namespace subgrad
