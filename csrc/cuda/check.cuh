// No call of the CUDA runtime goes unchecked, and none changes the caller's current device.
#pragma once

#include <cuda_runtime.h>

namespace subgrad {

// Returns from the launcher with the error of `call`, if there is one.
#define SGF_CUDA_TRY(call)                          \
  do {                                              \
    const cudaError_t sgf_error = (call);           \
    if (sgf_error != cudaSuccess) return sgf_error; \
  } while (false)

// Makes a device the current one, and puts the old one back.
class OnDevice {
 public:
  explicit OnDevice(int device) : error_(cudaGetDevice(&old_)) {
    if (error_ == cudaSuccess && old_ != device) {
      error_ = cudaSetDevice(device);
      changed_ = error_ == cudaSuccess;
    }
  }
  ~OnDevice() {
    if (changed_) static_cast<void>(cudaSetDevice(old_));
  }
  OnDevice(const OnDevice&) = delete;
  OnDevice& operator=(const OnDevice&) = delete;
  cudaError_t error() const { return error_; }

 private:
  int old_ = 0;
  cudaError_t error_;
  bool changed_ = false;
};

}  // namespace subgrad
