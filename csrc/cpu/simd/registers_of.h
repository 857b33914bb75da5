// A run of elements, register by register; the last ones fill a part of one.
#pragma once

#include <cstdint>

#include "core/macros.h"

namespace subgrad {
inline namespace SGF_ISA {

// body(i) for every full register's worth of n elements, body(i, rest) for what is left.
template <class V, class Body>
SGF_INLINE void registers_of(std::int64_t n, const Body& body) {
  constexpr int width = Memory<V>::width;
  std::int64_t i = 0;
  for (; i + width <= n; i += width) body(i);
  if constexpr (width > 1) {
    if (i < n) body(i, static_cast<int>(n - i));
  }
}

// The bits of lanes that hold elements: all, or the first `rest`.
SGF_INLINE unsigned valid_lanes() { return ~0u; }
SGF_INLINE unsigned valid_lanes(int rest) { return (1u << rest) - 1u; }

}  // namespace SGF_ISA
}  // namespace subgrad
