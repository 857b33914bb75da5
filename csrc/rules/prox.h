// Formulas that pull weights towards zero: the proximal operators of penalties that make sparse.
#pragma once

#include "core/macros.h"
#include "core/math.h"

namespace subgrad {
inline namespace SGF_ISA {

// sign(w) * max(|w| - t, 0), t >= 0: the proximal operator of t |w|. Written as w minus what lies
// within [-t, t]: one rounding; w - w is +0 for all that is shrunk away; NaN minus anything is NaN;
// and t = 0 changes no bit, -0 included.
template <class C>
struct SoftThreshold {
  C threshold;

  // A threshold beyond all numbers of C becomes the largest: it shrinks away every weight but an
  // infinite one, which stays.
  static SGF_HD SoftThreshold of(double t) {
    constexpr double largest = sizeof(C) == sizeof(float) ? 0x1.fffffep127 : 0x1.fffffffffffffp1023;
    return {static_cast<C>(t > largest ? largest : t)};
  }

  template <class V>
  SGF_HD V operator()(V w) const {
    return sub(w, clamp(w, splat<V>(-threshold), splat<V>(threshold)));
  }
};

// The elastic net's: of t |w| + l2/2 w^2, with scale = 1 / (1 + l2).
template <class C>
struct Shrink {
  SoftThreshold<C> soft_threshold;
  C scale;

  template <class V>
  SGF_HD V operator()(V w) const {
    return mul(splat<V>(scale), soft_threshold(w));
  }
};

// What a group's elements are multiplied by before they are squared, given the sum of their squares
// as they are. Where squares leave float64, one power of two brings all that count back into it.
SGF_HD double square_factor(double sum) {
  if (sum < 0x1p-900) return 0x1p600;
  return sum > 0x1.fffffffffffffp1023 ? 0x1p-600 : 1.0;
}

// The group's: of t ||w||, whose result is w times this. Both may be multiples by the same factor.
// A norm that is NaN stays NaN.
SGF_HD double group_scale(double threshold, double norm) {
  const double scale = 1.0 - threshold / norm;
  return scale < 0.0 ? 0.0 : scale;
}

}  // namespace SGF_ISA
}  // namespace subgrad
