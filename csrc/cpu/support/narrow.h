// float64 elements as float32, rounded to nearest even, beyond its range to infinity: NumPy's
// astype.
#pragma once

#include <cstdint>

namespace subgrad {

struct Layout;

// Writes n elements, one behind the other, in the layout's order; its strides of the gradient are
// those of `from`. A null layout: they lie so already.
void narrow_f64(const void* from, const Layout* layout, std::int64_t n, float* to);

}  // namespace subgrad
