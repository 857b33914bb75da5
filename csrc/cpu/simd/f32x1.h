// The portable "registers": plain float and double, one lane. Also the definition that the other
// wrappers are tested against.
#pragma once

#include "core/convert.h"
#include "core/math.h"
#include "core/types.h"

namespace subgrad {
inline namespace SGF_ISA {

template <class C>
using Vec = C;

template <class V>
struct Memory {
  static constexpr int width = 1;
  template <class T>
  static SGF_INLINE V load(const T* p) {
    return widen<V>(*p);
  }
  template <class T>
  static SGF_INLINE void store(T* p, V x) {
    *p = Narrow<T>::of(x);
  }
  template <class T>
  static SGF_INLINE void load_halves(const T* p, V& even, V& odd) {
    even = load(p);
    odd = load(p + 1);
  }
  template <class T>
  static SGF_INLINE void store_halves(T* p, V even, V odd) {
    store(p, even);
    store(p + 1, odd);
  }
};

// Lanes as bits of an integer: bit i is lane i. Counting and compaction start from these.
SGF_INLINE unsigned lane_bits(bool mask) { return mask ? 1u : 0u; }
SGF_INLINE int count_lanes(unsigned bits) { return static_cast<int>(bits); }
SGF_INLINE int first_lane(unsigned) { return 0; }

// The lanes of `bits` moved to the front, in their order; what lies behind them is anything.
template <class V>
SGF_INLINE V compact(V x, unsigned) {
  return x;
}
// Their numbers, counted from `first`; a whole register's worth is stored.
template <class V>
struct LaneNumbers {
  template <class I>
  static SGF_INLINE void store(I* p, std::int64_t first, unsigned) {
    *p = static_cast<I>(first);
  }
};

}  // namespace SGF_ISA
}  // namespace subgrad
