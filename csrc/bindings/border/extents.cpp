#include "bindings/border/extents.h"

#include <pybind11/numpy.h>

#include <algorithm>
#include <cstdlib>
#include <string>

#include "cpu/support/layout.h"

namespace subgrad {
namespace {

template <class ByteStride>
Range range_of(const char* data, int ndim, const std::int64_t* shape, std::int64_t size,
               std::int64_t itemsize, const ByteStride& byte_stride) {
  Range r{data, data};
  if (size == 0) return r;
  for (int d = 0; d < ndim; ++d) {
    const std::int64_t reach = (shape[d] - 1) * byte_stride(d);
    (reach < 0 ? r.begin : r.end) += reach;
  }
  r.end += itemsize;
  return r;
}

Layout layout_of(const Extents& x) {
  const std::int64_t* strides = x.strides.data();
  return Layout(x.ndim(), x.shape.data(), strides, strides, strides);
}

}  // namespace

Range byte_range(const ArrayView& x) {
  return range_of(x.data, x.ndim, x.shape, x.size(), x.itemsize(),
                  [&](int d) { return x.strides[d] * x.stride_unit; });
}

Range byte_range(const py::array& x) {
  static_assert(sizeof(py::ssize_t) == sizeof(std::int64_t), "a 64-bit platform");
  return range_of(static_cast<const char*>(x.data()), static_cast<int>(x.ndim()),
                  reinterpret_cast<const std::int64_t*>(x.shape()), x.size(), x.itemsize(),
                  [&](int d) { return static_cast<std::int64_t>(x.strides(d)); });
}

Extents::Extents(const ArrayView& view)
    : data(view.data),
      size(view.size()),
      device(view.device),
      dtype(view.dtype),
      shape(view.ndim),
      strides(view.ndim) {
  for (int d = 0; d < view.ndim; ++d) {
    shape.data()[d] = view.shape[d];
    strides.data()[d] = view.strides[d] * view.stride_unit;
  }
}

Range Extents::byte_range() const {
  return range_of(data, ndim(), shape.data(), size, itemsize(), [&](int d) { return strides[d]; });
}

bool Extents::same_shape(const ArrayView& view) const {
  if (ndim() != view.ndim) return false;
  for (int d = 0; d < view.ndim; ++d) {
    if (shape[d] != view.shape[d]) return false;
  }
  return true;
}

bool Extents::same_memory(const Extents& other) const {
  return data == other.data && itemsize() == other.itemsize() && alike(other);
}

bool Extents::alike(const Extents& other) const {
  if (ndim() != other.ndim()) return false;
  for (int d = 0; d < ndim(); ++d) {
    if (strides[d] * other.itemsize() != other.strides[d] * itemsize()) return false;
  }
  return true;
}

bool Extents::row_major() const {
  std::int64_t stride = itemsize();
  for (int d = ndim(); d-- > 0; stride *= shape[d]) {
    if (shape[d] != 1 && strides[d] != stride) return false;
  }
  return aligned();
}

bool Extents::dense() const {
  return size == 0 || layout_of(*this).contiguous(itemsize(), itemsize(), itemsize());
}

bool Extents::aligned() const {
  if (reinterpret_cast<std::uintptr_t>(data) % size_of(dtype) != 0) return false;
  return std::all_of(strides.data(), strides.data() + ndim(),
                     [this](std::int64_t stride) { return stride % itemsize() == 0; });
}

// Sufficient, not necessary: in a stack of dimensions each stride must step over all that lies
// inside.
bool Extents::may_overlap_itself() const {
  if (size == 0) return false;
  const Layout layout = layout_of(*this);
  std::int64_t reach = itemsize();
  for (std::size_t d = layout.dims.size(); d-- > 0;) {
    const std::int64_t stride = std::abs(layout.dims[d].param_stride);
    if (stride < reach) return true;
    reach += (layout.dims[d].size - 1) * stride;
  }
  return false;
}

// NumPy has the exact solver for interleaved strides; where that would take too long the answer is
// yes.
bool Extents::shares_memory(const Extents& other) const {
  if (dense() && other.dense()) return true;
  const auto as_numpy = [](const Extents& x) {
    return py::array(py::dtype("V" + std::to_string(x.itemsize())),
                     std::vector<py::ssize_t>(x.shape.data(), x.shape.data() + x.ndim()),
                     std::vector<py::ssize_t>(x.strides.data(), x.strides.data() + x.ndim()),
                     x.data, py::capsule(x.data, [](void*) {}));
  };
  try {
    return py::module_::import("numpy")
        .attr("shares_memory")(as_numpy(*this), as_numpy(other), py::arg("max_work") = 100'000)
        .cast<bool>();
  } catch (const py::error_already_set&) {  // numpy.exceptions.TooHardError
    return true;
  }
}

void require_device_of(const Extents& param, const Where& param_where, const ArrayView& view,
                       const Where& where) {
  if (param.device == view.device) return;
  throw py::value_error(where.text() + ": expected memory on " + device_text(param.device) +
                        " like " + param_where.text() + ", got " + device_text(view.device));
}

void refuse_strides(const Where& where, int device) {
  throw py::value_error(where.text() + ": on " + device_text(device) +
                        " an array must be contiguous in its parameter's order");
}

void require_shape_of(const Extents& param, const Where& param_where, const ArrayView& view,
                      const Where& where) {
  if (param.same_shape(view)) return;
  throw py::value_error(where.text() + ": expected shape " +
                        shape_text(param.ndim(), param.shape.data()) + " like " +
                        param_where.text() + ", got " + view.describe());
}

void refuse_grad_dtype(const Extents& param, const Where& param_where, const ArrayView& grad,
                       const Where& where) {
  throw py::type_error(where.text() + ": expected " + name_of(param.dtype) + " like " +
                       param_where.text() + ", or float32, bfloat16 or float16, got " +
                       name_of(grad.dtype));
}

}  // namespace subgrad
