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
#include "rules/norm.h"
#include "samplers/order.h"
#include "samplers/weighted.h"

namespace subgrad {

// What becomes of a whole step's gradients. Addresses are of device memory, read when the step
// runs.
struct CudaClip {
  double grad_scale = 1.0;                      // what they have been multiplied by,
  const float* grad_scale_on_device = nullptr;  // or where that lies
  const float* found_inf = nullptr;             // unless it is 0, nothing is written
  bool skip_nonfinite = false;                  // nothing is where a sum of squares is not finite
  const SquareSum* sums = nullptr;              // as clip_measure leaves them
};

// How many steps a tensor's momentum and average hold, counted on the device, where a step may be
// skipped without the host being told; `before`: before the step that runs.
struct CudaStepCounts {
  std::int32_t momentum_before, momentum, average_before, average;
};

struct CudaDenseOptions {
  CudaClip clip;
  NormScope scope = NormScope::global;
  int groups = 0;  // as clip_measure was told
  // By tensor. Null: the host knows, and says it by `first`.
  CudaStepCounts* const* counts = nullptr;
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
