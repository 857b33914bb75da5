// The CUDA launchers as plain C: raw pointers, sizes, plain structs and a stream. launchers.inl
// lists them. Nothing here needs a CUDA header, so the bindings include these two files and no
// other of the layer.
//
// Every call returns 0 or the number of a CUDA error, works on the device and in the stream that it
// is given, never waits for the device and allocates nothing, so it can be captured in a graph.
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/work.h"
#include "samplers/order.h"
#include "samplers/weighted.h"

namespace subgrad {

// What a whole step may read from device memory. Null: not used.
struct CudaDenseOptions {
  const float* grad_scale;  // gradients are multiplied by 1 / *grad_scale
  const float* found_inf;   // unless it is 0, nothing is written
};

// In device memory; each may be null.
struct CudaReport {
  std::int64_t* kept;  // by array
  double* thresholds;  // by scope: the least magnitude that is kept; infinity for none
  double* energies;    // by tensor, if measured: sums of squares of what is kept and of the rest
};

struct CudaDeviceInfo {
  char name[256];
  int major, minor;  // compute capability
  int multiprocessors;
};

extern "C" {
#define SGF_LAUNCHER(result, name, parameters) result subgrad_cuda_##name parameters;
#include "cuda/launchers.inl"
}

// What becomes of a position outside an order: no index that anything takes.
inline constexpr std::int64_t kOutside = INT64_MIN;

// The launchers as a table, which the module that has the kernels hands to the one that knows
// Python's arrays. Both must come from one build, which `version` is there to check.
struct CudaApi {
  const char* version;
  const char* architectures;
#define SGF_LAUNCHER(result, name, parameters) result(*name) parameters;
#include "cuda/launchers.inl"
};
inline constexpr const char* kCudaApiName = "subgrad_fast.cuda_api";

}  // namespace subgrad
