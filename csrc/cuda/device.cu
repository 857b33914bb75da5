// What there is to run on.
#include <cstdio>

#include "cuda/api.h"
#include "cuda/check.cuh"

namespace subgrad {
namespace {

// In the image for a device exactly when the build has kernels that it can run.
__global__ void probe() {}

}  // namespace

extern "C" {

int subgrad_cuda_driver_version(int* version) { return cudaDriverGetVersion(version); }

int subgrad_cuda_device_count(int* count) { return cudaGetDeviceCount(count); }

int subgrad_cuda_device_info(int device, CudaDeviceInfo* info) {
  cudaDeviceProp properties;
  SGF_CUDA_TRY(cudaGetDeviceProperties(&properties, device));
  std::snprintf(info->name, sizeof info->name, "%s", properties.name);
  info->major = properties.major;
  info->minor = properties.minor;
  info->multiprocessors = properties.multiProcessorCount;
  return cudaSuccess;
}

int subgrad_cuda_check_device(int device) {
  const OnDevice on(device);
  SGF_CUDA_TRY(on.error());
  cudaFuncAttributes attributes;
  return cudaFuncGetAttributes(&attributes, probe);
}

const char* subgrad_cuda_error_text(int error) {
  return cudaGetErrorString(static_cast<cudaError_t>(error));
}

}  // extern "C"

}  // namespace subgrad
