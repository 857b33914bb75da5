// What a tensor's library says of it through the exchange API, kept to be compared with what it
// says at the next step: a few words side by side, since inside a training loop a step costs the
// cache lines that it touches.
#pragma once

#include <cstdint>
#include <cstring>

#include "bindings/dlpack.h"

namespace subgrad {

class TensorForm {
 public:
  TensorForm() = default;  // no tensor has it

  // None for tensors of more dimensions than are kept here.
  explicit TensorForm(const DLTensor& t) {
    if (t.ndim < 1 || t.ndim > kMostDims || t.strides == nullptr) return;
    device_ = t.device;
    dtype_ = t.dtype;
    ndim_ = t.ndim;
    const std::size_t bytes = sizeof(std::int64_t) * static_cast<std::size_t>(t.ndim);
    std::memcpy(extents_, t.shape, bytes);
    std::memcpy(extents_ + t.ndim, t.strides, bytes);
  }

  explicit operator bool() const { return ndim_ > 0; }

  // Whether `t` has this device, element type, shape and strides.
  bool fits(const DLTensor& t) const {
    if (t.ndim != ndim_ || t.strides == nullptr || t.device.device_type != device_.device_type ||
        t.device.device_id != device_.device_id || t.dtype.code != dtype_.code ||
        t.dtype.bits != dtype_.bits || t.dtype.lanes != dtype_.lanes) {
      return false;
    }
    for (int d = 0; d < ndim_; ++d) {
      if (t.shape[d] != extents_[d] || t.strides[d] != extents_[ndim_ + d]) return false;
    }
    return true;
  }

 private:
  static constexpr int kMostDims = 4;
  DLDevice device_{};
  DLDataType dtype_{};
  std::int32_t ndim_ = 0;
  std::int64_t extents_[2 * kMostDims] = {};  // shape, then strides in elements
};

}  // namespace subgrad
