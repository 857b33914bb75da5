// Lane arithmetic for plain float and double: what a rule may ask of its value type. The register
// wrappers in cpu/simd/ offer the same names, so one functor serves CUDA, the portable path and
// SIMD.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#include "core/macros.h"

namespace subgrad {
inline namespace SGF_ISA {

// What one lane of a value type is: float for float, and for every register wrapper of floats.
template <class V>
struct LaneOf {
  using type = typename V::Lane;
};
template <>
struct LaneOf<float> {
  using type = float;
};
template <>
struct LaneOf<double> {
  using type = double;
};
template <class V>
using lane_t = typename LaneOf<V>::type;

// splat<V>(x): x in every lane.
template <class V>
struct Splat {
  static SGF_HD V of(lane_t<V> x) { return V::splat(x); }
};
template <>
struct Splat<float> {
  static SGF_HD float of(float x) { return x; }
};
template <>
struct Splat<double> {
  static SGF_HD double of(double x) { return x; }
};
template <class V>
SGF_HD V splat(lane_t<V> x) {
  return Splat<V>::of(x);
}

// fma(a, b, c) = a * b + c, rounded once.
SGF_HD float fma(float a, float b, float c) { return ::fmaf(a, b, c); }
SGF_HD double fma(double a, double b, double c) { return ::fma(a, b, c); }
SGF_HD float mul(float a, float b) { return a * b; }
SGF_HD double mul(double a, double b) { return a * b; }
SGF_HD float sub(float a, float b) { return a - b; }
SGF_HD double sub(double a, double b) { return a - b; }

// clamp(x, low, high): x, or the bound that it is beyond; high where it equals high, low for a NaN.
// The comparisons are those of x86's maximum and minimum, so that zeros' signs agree everywhere.
SGF_HD float clamp(float x, float low, float high) {
  x = x > low ? x : low;
  return x < high ? x : high;
}
SGF_HD double clamp(double x, double low, double high) {
  x = x > low ? x : low;
  return x < high ? x : high;
}

// within(x, low, high): x, or the bound that it is beyond. NaN stays NaN, and so do bits of what
// lies within, bounds included.
SGF_HD float within(float x, float low, float high) {
  x = low > x ? low : x;
  return high < x ? high : x;
}
SGF_HD double within(double x, double low, double high) {
  x = low > x ? low : x;
  return high < x ? high : x;
}

// A magnitude as an unsigned integer: the bits of |x| order as magnitudes do, and NaN comes last.
template <class C>
struct KeyOf;
template <>
struct KeyOf<float> {
  using type = std::uint32_t;
};
template <>
struct KeyOf<double> {
  using type = std::uint64_t;
};
template <class V>
using key_t = typename KeyOf<lane_t<V>>::type;

SGF_HD std::uint32_t magnitude_bits(float x) {
  std::uint32_t u;
  memcpy(&u, &x, sizeof u);
  return u & 0x7fffffffu;
}
SGF_HD std::uint64_t magnitude_bits(double x) {
  std::uint64_t u;
  memcpy(&u, &x, sizeof u);
  return u & 0x7fffffffffffffffu;
}

// at_least(x, cut): the lanes with magnitude_bits(x) >= cut, as a mask; cut <= 2^31 (2^63).
// Integers are compared, so that no floating-point mode (flushed subnormals) changes what is kept.
SGF_HD bool at_least(float x, std::uint32_t cut) { return magnitude_bits(x) >= cut; }
SGF_HD bool at_least(double x, std::uint64_t cut) { return magnitude_bits(x) >= cut; }

// blend(mask, yes, no): yes in the mask's lanes, no in the others.
SGF_HD float blend(bool mask, float yes, float no) { return mask ? yes : no; }
SGF_HD double blend(bool mask, double yes, double no) { return mask ? yes : no; }

}  // namespace SGF_ISA
}  // namespace subgrad
