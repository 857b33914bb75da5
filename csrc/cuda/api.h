// The CUDA launchers as plain C: raw pointers, sizes, plain structs and a stream. Nothing here
// needs a CUDA header, so the bindings include this file and no other of the layer.
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

// Sampling. Indices are int64, aligned to 8 bytes.

// The rows at positions start, start + step, ... of an order, all of them in [0, n).
int subgrad_cuda_order_range(int device, void* stream, const RowOrder* order, std::int64_t start,
                             std::int64_t step, std::int64_t* out, std::int64_t count);
// Positions become rows, or rows positions, in place. Negative ones count from the end; what is
// still outside [0, n) becomes kOutside.
int subgrad_cuda_order_indices(int device, void* stream, const RowOrder* order,
                               std::int64_t* values, std::int64_t count);
int subgrad_cuda_order_positions(int device, void* stream, const RowOrder* order,
                                 std::int64_t* values, std::int64_t count);

// Draws number start, start + 1, ... with replacement: from [0, n), or from the n columns of an
// alias table in device memory, aligned to 16 bytes.
int subgrad_cuda_uniform_draws(int device, void* stream, std::uint64_t n, std::uint64_t key,
                               std::uint64_t start, std::int64_t* out, std::int64_t count);
int subgrad_cuda_alias_draws(int device, void* stream, const AliasColumn* table, std::uint64_t n,
                             std::uint64_t key, std::uint64_t start, std::int64_t* out,
                             std::int64_t count);

// Blocks `low`, `low` + 1, ... of the counters whose upper half is `high`: two words each.
int subgrad_cuda_random_words(int device, void* stream, std::uint64_t key, std::uint64_t low,
                              std::uint64_t high, std::uint64_t* words, std::int64_t blocks);

// Copies indices from host memory, which may change as soon as this returns.
int subgrad_cuda_send_indices(int device, void* stream, const std::int64_t* indices,
                              std::int64_t* out, std::int64_t count);

// Copies source row indices[i] of every array to row i of its output. The indices have been
// checked.
int subgrad_cuda_gather(int device, void* stream, const CudaGatherArray* arrays, std::size_t count,
                        const std::int64_t* indices, std::int64_t rows);

// Selection in two parts, which share scratch memory on the device. The first finds what is kept
// and counts it; the second writes it, when the caller has made room.
int subgrad_cuda_select_bytes(const CudaSpan* spans, std::size_t count, const CudaScope* scopes,
                              std::size_t scope_count, std::size_t* bytes);
int subgrad_cuda_select_find(int device, void* stream, const CudaSpan* spans, std::size_t count,
                             const CudaScope* scopes, std::size_t scope_count, void* scratch,
                             const CudaSelectReport* report);
int subgrad_cuda_select_write(int device, void* stream, const CudaSpan* spans, std::size_t count,
                              const CudaScope* scopes, std::size_t scope_count, void* scratch,
                              int index_bytes);

// A thresholded step, likewise. Where nothing is reported the second part follows at once.
int subgrad_cuda_threshold_bytes(const CudaThresholdTensor* tensors, std::size_t count,
                                 const CudaScope* scopes, std::size_t scope_count,
                                 const CudaThresholdOptions* options, std::size_t* bytes);
int subgrad_cuda_threshold_begin(int device, void* stream, const CudaThresholdTensor* tensors,
                                 std::size_t count, const CudaThresholdRow* rows,
                                 const CudaScope* scopes, std::size_t scope_count,
                                 const CudaThresholdOptions* options, void* scratch,
                                 const CudaSelectReport* report);
int subgrad_cuda_threshold_finish(int device, void* stream, const CudaThresholdTensor* tensors,
                                  std::size_t count, const CudaThresholdRow* rows,
                                  const CudaScope* scopes, std::size_t scope_count,
                                  const CudaThresholdOptions* options, void* scratch,
                                  const CudaSelectReport* report);
}

// What becomes of a position outside an order: no index that anything takes.
inline constexpr std::int64_t kOutside = INT64_MIN;

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

  decltype(&subgrad_cuda_order_range) order_range;
  decltype(&subgrad_cuda_order_indices) order_indices;
  decltype(&subgrad_cuda_order_positions) order_positions;
  decltype(&subgrad_cuda_uniform_draws) uniform_draws;
  decltype(&subgrad_cuda_alias_draws) alias_draws;
  decltype(&subgrad_cuda_random_words) random_words;
  decltype(&subgrad_cuda_send_indices) send_indices;
  decltype(&subgrad_cuda_gather) gather;

  decltype(&subgrad_cuda_select_bytes) select_bytes;
  decltype(&subgrad_cuda_select_find) select_find;
  decltype(&subgrad_cuda_select_write) select_write;
  decltype(&subgrad_cuda_threshold_bytes) threshold_bytes;
  decltype(&subgrad_cuda_threshold_begin) threshold_begin;
  decltype(&subgrad_cuda_threshold_finish) threshold_finish;
};
inline constexpr const char* kCudaApiName = "subgrad_fast.cuda_api";

}  // namespace subgrad
