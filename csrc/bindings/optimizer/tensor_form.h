// What a tensor's library says of it through the exchange API, kept to be compared with what it
// says at the next step: a few words side by side, since inside a training loop a step costs the
// cache lines that it touches.
#pragma once

#include <cstdint>

#include "bindings/border/dlpack.h"

namespace subgrad {

class TensorForm {
 public:
  TensorForm() = default;  // no tensor has it

  // None for tensors of more or larger dimensions than are kept here, or beyond the CPU.
  explicit TensorForm(const DLTensor& t) {
    if (t.ndim < 1 || t.ndim > kMostDims || t.strides == nullptr) return;
    for (int d = 0; d < t.ndim; ++d) {
      extents_[d] = static_cast<std::int32_t>(t.shape[d]);
      extents_[kMostDims + d] = static_cast<std::int32_t>(t.strides[d]);
    }
    dtype_ = t.dtype;
    ndim_ = t.ndim;
    if (!fits(t)) ndim_ = 0;
  }

  explicit operator bool() const { return ndim_ > 0; }

  // Whether `t` is a tensor on the CPU of this element type, shape and strides.
  bool fits(const DLTensor& t) const {
    if (t.ndim != ndim_ || t.strides == nullptr || t.device.device_type != kDLCPU ||
        t.dtype.code != dtype_.code || t.dtype.bits != dtype_.bits ||
        t.dtype.lanes != dtype_.lanes) {
      return false;
    }
    for (int d = 0; d < ndim_; ++d) {
      if (t.shape[d] != extents_[d] || t.strides[d] != extents_[kMostDims + d]) return false;
    }
    return true;
  }

 private:
  static constexpr int kMostDims = 4;
  DLDataType dtype_{};
  std::int32_t ndim_ = 0;
  std::int32_t extents_[2 * kMostDims] = {};  // shape, then strides in elements
};

}  // namespace subgrad
