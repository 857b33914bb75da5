#include "bindings/border/narrowed.h"

#include <algorithm>

#include "bindings/border/gil.h"
#include "cpu/support/layout.h"
#include "cpu/support/narrow.h"
#include "cpu/support/recycled.h"

namespace subgrad {
namespace {

constexpr std::int64_t kBytes = sizeof(float);

struct Narrowed {
  std::vector<std::int64_t> shape, strides;
  Recycled<float> elements;
};

std::vector<std::int64_t> row_major(const std::vector<std::int64_t>& shape) {
  std::vector<std::int64_t> strides(shape.size());
  std::int64_t stride = kBytes;
  for (std::size_t d = shape.size(); d-- > 0; stride *= shape[d]) strides[d] = stride;
  return strides;
}

// Byte strides of the new elements: those of `like`, where it is one run in any order.
std::vector<std::int64_t> strides_like(const std::vector<std::int64_t>& shape,
                                       const Extents* like) {
  std::vector<std::int64_t> strides = row_major(shape);
  if (like == nullptr || !like->dense()) return strides;
  const auto upwards = [&](int d) { return like->shape[d] == 1 || like->strides[d] > 0; };
  for (int d = 0; d < like->ndim(); ++d) {
    if (!upwards(d)) return strides;
  }
  for (int d = 0; d < like->ndim(); ++d) {
    strides[static_cast<std::size_t>(d)] = like->strides[d] / like->itemsize() * kBytes;
  }
  return strides;
}

}  // namespace

ArrayView narrowed(const ArrayView& grad, const Extents* like) {
  auto made = std::make_shared<Narrowed>();
  made->shape.assign(grad.shape, grad.shape + grad.ndim);
  made->strides = strides_like(made->shape, like);
  const Extents from(grad);
  made->elements.resize(static_cast<std::size_t>(from.size));
  if (from.size > 0) {
    const Layout layout(grad.ndim, made->shape.data(), made->strides.data(), from.strides.data(),
                        made->strides.data());
    const bool one_run = from.aligned() && layout.contiguous(kBytes, from.itemsize(), kBytes);
    without_gil(from.size, kStepElements, [&] {
      narrow_f64(grad.data, one_run ? nullptr : &layout, from.size, made->elements.data());
    });
  }
  ArrayView view;
  view.data = reinterpret_cast<char*>(made->elements.data());
  view.dtype = DType::f32;
  view.ndim = grad.ndim;
  view.shape = made->shape.data();
  view.strides = made->strides.data();
  view.writable = false;
  view.source = grad.source;
  view.owned = std::move(made);
  return view;
}

}  // namespace subgrad
