// Where an array's elements lie: what must stay the same for a plan to stay valid, and what decides
// whether two arrays can meet in memory.
#pragma once

#include <pybind11/numpy.h>

#include <cstdint>
#include <vector>

#include "bindings/border/arrays.h"

namespace subgrad {

// A few 64-bit integers in place, more of them on the heap.
class Dims {
 public:
  Dims() = default;
  explicit Dims(int n) : n_(n) {
    if (n > kInPlace) heap_.resize(static_cast<std::size_t>(n));
  }
  int size() const { return n_; }
  std::int64_t* data() { return n_ > kInPlace ? heap_.data() : here_; }
  const std::int64_t* data() const { return n_ > kInPlace ? heap_.data() : here_; }
  std::int64_t operator[](int d) const { return data()[d]; }

 private:
  static constexpr int kInPlace = 4;
  int n_ = 0;
  std::int64_t here_[kInPlace] = {};
  std::vector<std::int64_t> heap_;
};

struct Range {
  const char* begin;
  const char* end;
};
Range byte_range(const ArrayView& view);
Range byte_range(const py::array& array);  // of any dtype

struct Extents {
  char* data = nullptr;
  std::int64_t size = 0;  // elements
  int device = kHost;
  DType dtype = DType::f32;
  Dims shape;
  Dims strides;  // bytes

  Extents() = default;
  explicit Extents(const ArrayView& view);

  int ndim() const { return shape.size(); }
  std::int64_t itemsize() const { return static_cast<std::int64_t>(size_of(dtype)); }
  Range byte_range() const;

  bool same_shape(const ArrayView& view) const;
  bool same_layout(const ArrayView& view) const {  // shape and strides
    if (ndim() != view.ndim) return false;
    const std::int64_t *n = shape.data(), *s = strides.data();
    for (int d = 0; d < view.ndim; ++d) {
      if (n[d] != view.shape[d] || s[d] != view.strides[d] * view.stride_unit) return false;
    }
    return true;
  }
  bool same(const ArrayView& view) const {  // and memory and dtype
    return data == view.data && device == view.device && dtype == view.dtype && same_layout(view);
  }
  bool same_memory(const Extents& other) const;  // element for element
  bool alike(const Extents& other) const;        // the same order of elements, whatever their sizes

  bool row_major() const;  // one run of aligned elements, the last dimension varying fastest
  bool dense() const;      // one run of memory, each byte once
  bool aligned() const;    // every element at a multiple of its size
  bool may_overlap_itself() const;
  bool shares_memory(const Extents& other) const;  // given that the byte ranges meet
};

// Throws ValueError for an array that does not have the shape of its parameter.
void require_shape_of(const Extents& param, const Where& param_where, const ArrayView& view,
                      const Where& where);

// Throws ValueError for an array that is not where its parameter is.
void require_device_of(const Extents& param, const Where& param_where, const ArrayView& view,
                       const Where& where);

// Throws ValueError: kernels on a GPU know no strides.
[[noreturn]] void refuse_strides(const Where& where, int device);

// Throws TypeError: the gradient's type does not go with the parameter's.
[[noreturn]] void refuse_grad_dtype(const Extents& param, const Where& param_where,
                                    const ArrayView& grad, const Where& where);

}  // namespace subgrad
