// What is kept: the elements whose magnitude is at least a cut. Magnitudes are compared as integer
// keys, which order as they do; all NaN have one key, above infinity's.
#pragma once

#include "core/macros.h"
#include "core/math.h"

namespace subgrad {
inline namespace SGF_ISA {

// The ends of the range of keys. A kernel compares bits, not keys: NaN bits lie above `nan`, so
// both say the same for every cut up to `nan`, and for `nothing`, which no magnitude reaches.
template <class C>
struct Keys;
template <>
struct Keys<float> {
  static constexpr std::uint32_t inf = 0x7f800000u, nan = inf + 1, nothing = 0x80000000u;
};
template <>
struct Keys<double> {
  static constexpr std::uint64_t inf = 0x7ff0000000000000u, nan = inf + 1,
                                 nothing = 0x8000000000000000u;
};

template <class C>
SGF_HD key_t<C> magnitude_key(C x) {
  const key_t<C> bits = magnitude_bits(x);
  return bits < Keys<C>::nan ? bits : Keys<C>::nan;
}

// The cut that keeps |x| >= threshold and every NaN. The threshold is rounded to the type that is
// computed in, as it is where an array is compared with a number.
template <class C>
SGF_HD key_t<C> cut_of(double threshold) {
  return magnitude_key(static_cast<C>(threshold));
}

// The cut that keeps what lies above `key`.
template <class C>
SGF_HD key_t<C> cut_above(key_t<C> key) {
  return key < Keys<C>::nan ? key + 1 : Keys<C>::nothing;
}

// The same cut for elements that have been widened to double.
template <class C>
SGF_HD std::uint64_t cut_as_f64(key_t<C> cut) {
  if (cut >= Keys<C>::nan) return cut == Keys<C>::nan ? Keys<double>::nan : Keys<double>::nothing;
  C magnitude;
  memcpy(&magnitude, &cut, sizeof cut);
  return magnitude_bits(static_cast<double>(magnitude));
}

}  // namespace SGF_ISA
}  // namespace subgrad
