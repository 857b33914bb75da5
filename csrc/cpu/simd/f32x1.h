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
};

}  // namespace SGF_ISA
}  // namespace subgrad
