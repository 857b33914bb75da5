// The CUDA launchers as plain C: raw pointers, sizes, plain structs and a stream. launchers.inl
// lists them. Nothing here needs a CUDA header, so the bindings include these two files and no
// other of the layer.
//
// Every call returns 0 or the number of a CUDA error, works on the device and in the stream that it
// is given, never waits for the device and allocates nothing, so it can be captured in a graph.
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/types.h"
#include "samplers/order.h"
#include "samplers/weighted.h"

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

// One array of a batch: rows that are runs of bytes, a fixed distance (of either sign, or zero)
// apart, and where they go, one behind the other.
struct CudaGatherArray {
  const char* source;
  char* out;
  std::int64_t stride;     // bytes from one row of the source to the next
  std::int64_t row_bytes;  // may be 0
};

// --- Selection by magnitude, and the thresholded step ---

// What arrays that are ranked together keep. Scopes are numbered in the order of their arrays.
struct CudaScope {
  double threshold;                   // magnitudes of at least this
  const double* threshold_on_device;  // read in its place when the work runs; or null
  std::int64_t k;                     // so many, the first of those that tie; or -1: a threshold
};

// Where to put what is kept of an array, ascending by index: what is beyond the capacity is not
// kept. All null: nowhere.
struct CudaKept {
  void* indices;  // of the size that the call says
  void* values;
  std::int64_t capacity;
};
inline constexpr std::int64_t kCudaUnlimited = INT64_MAX;

// A contiguous array that is selected from.
struct CudaSpan {
  const void* data;
  std::int64_t n;
  DType dtype;
  int scope;
  CudaKept kept;  // values have the array's type
};

// One tensor's part of a thresholded step. Operands as in CudaDenseTensor; momentum and residual
// have the arithmetic's type.
struct CudaThresholdTensor {
  void* param;
  const void* grad;
  void* momentum;  // null: the rule has none
  void* residual;  // null: what is not kept is dropped
  std::int64_t n;
  int params_row, types_row, scope;
  bool first;     // the momentum holds nothing yet
  bool fresh;     // the residual holds nothing yet
  CudaKept kept;  // values have the arithmetic's type
};

struct CudaThresholdRow {
  SgdParams params;
  const float* lr;  // as in CudaDenseRow
  bool momentum_correction, momentum_masking;
};

struct CudaThresholdOptions {
  int index_bytes;  // 4 or 8: what is kept is reported, and limited to its capacity
  bool measure;
};

// In device memory; each may be null.
struct CudaSelectReport {
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
