// Arrays on a GPU, of any element type: what samplers write their indices to, and what batches are
// gathered from. They come by the DLPack exchange interface, which also tells the stream.
#pragma once

#include <cstdint>
#include <optional>

#include "bindings/border/arrays.h"
#include "bindings/cuda/backend.h"

namespace subgrad {

struct CudaArray {
  DLTensor tensor;  // valid while the object lives and the GIL is held
  int device;
  const DLPackExchangeAPI* api;

  char* data() const { return static_cast<char*>(tensor.data) + tensor.byte_offset; }
  std::int64_t itemsize() const { return tensor.dtype.bits * tensor.dtype.lanes / 8; }
  std::int64_t row_bytes() const;   // of all that one index of the first dimension names
  std::int64_t row_stride() const;  // bytes
  bool contiguous_rows() const;     // each row is one run of bytes
  bool contiguous() const;
};

// Nothing for an object that is not in the memory of a CUDA device.
std::optional<CudaArray> find_cuda_array(py::handle object);
// The same; throws TypeError instead.
CudaArray cuda_array(py::handle object, const Where& where);

// Contiguous int64 on a device; throws ValueError.
struct CudaIndices {
  CudaArray array;
  std::int64_t* data;
  std::int64_t count;
};
CudaIndices cuda_indices(py::handle object, const Where& where);

// Runs a launcher on the array's device, in the stream that its library is working in:
// `launch(api, stream)`. Throws ValueError naming the argument if no kernels can run there,
// RuntimeError if CUDA reports an error.
template <class Launch>
void launch_on(const CudaArray& array, const Where& where, const Launch& launch) {
  require_cuda(array.device, array.api, where);
  launch_cuda(array.device, array.api, launch);
}

}  // namespace subgrad
