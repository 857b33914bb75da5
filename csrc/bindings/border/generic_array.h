// Arrays of any element type that libraries hand out by the DLPack exchange interface, on the host
// or on a device: what samplers write their indices to, and what batches are gathered from.
#pragma once

#include <cstdint>
#include <optional>

#include "bindings/border/place.h"

namespace subgrad {

struct GenericArray {
  DLTensor tensor;  // valid while the object lives and the GIL is held
  Place place;

  char* data() const { return static_cast<char*>(tensor.data) + tensor.byte_offset; }
  std::int64_t size() const;
  std::int64_t itemsize() const { return tensor.dtype.bits * tensor.dtype.lanes / 8; }
  std::int64_t row_bytes() const;   // of all that one index of the first dimension names
  std::int64_t row_stride() const;  // bytes
  bool contiguous_rows() const;     // each row is one run of bytes
  bool contiguous() const;
};

// Throws TypeError for what is not handed out so, ValueError for what has no memory of its own.
GenericArray generic_array(py::handle object, const Where& where);

// The number of the CUDA device that an object's memory is on; nothing for the host's, and for what
// is no array. The one place that is asked before a call.
std::optional<int> device_of(py::handle object);

}  // namespace subgrad
