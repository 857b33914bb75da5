// Loads and stores of fewer elements than a register holds, for instruction sets without masks on
// 16-bit lanes: through a small buffer, so that no byte behind the array is touched.
#pragma once

#include "core/macros.h"

namespace subgrad {
inline namespace SGF_ISA {

template <class Derived>
struct PartialThroughBuffer {
  template <class T>
  static SGF_INLINE auto load_partial(const T* p, int n) {
    T buffer[Derived::width] = {};
    for (int i = 0; i < n; ++i) buffer[i] = p[i];
    return Derived::load(buffer);
  }
  template <class T, class V>
  static SGF_INLINE void store_partial(T* p, V x, int n) {
    T buffer[Derived::width];
    Derived::store(buffer, x);
    for (int i = 0; i < n; ++i) p[i] = buffer[i];
  }
};

}  // namespace SGF_ISA
}  // namespace subgrad
