// Gradients of float64 for parameters of fewer bits. NumPy makes float64 of what it is not told the
// type of, and no kernel has such a gradient: it is taken as what gradient.astype(float32) holds.
//
// The elements are converted before the step, to memory of four bytes an element: what looks at a
// gradient more than once (its norm, a threshold) then sees the same numbers each time.
#pragma once

#include "bindings/border/extents.h"

namespace subgrad {

// Whether a gradient has more bits than its parameter's arithmetic.
inline bool needs_narrowing(const ArrayView& grad, DType param) {
  return grad.dtype == DType::f64 && param != DType::f64 && grad.device == kHost;
}

// The gradient as float32 in memory that the view owns: in the order of the elements of `like`, or
// row-major.
ArrayView narrowed(const ArrayView& grad, const Extents* like = nullptr);

}  // namespace subgrad
