// Norms put together from sums of squares, and what a step makes of them.
#pragma once

#include <cmath>

#include "core/macros.h"
#include "core/sgd_params.h"
#include "core/work.h"
#include "rules/clip.h"

namespace subgrad {

// A sum of squares: `value` times 4^exponent. An exponent other than 0 keeps squares of f64
// elements within the range of f64; each gradient has its own, so that none of them hides another.
// A value is finite exactly if all elements are.
struct SquareSum {
  double value = 0.0;
  int exponent = 0;

  SGF_HD void add(const SquareSum& other) {
    if (exponent == other.exponent || other.value == 0.0) {
      value += other.value;
      return;
    }
    const int larger = exponent > other.exponent ? exponent : other.exponent;
    const int common = value == 0.0 ? other.exponent : larger;
    value =
        ldexp(value, 2 * (exponent - common)) + ldexp(other.value, 2 * (other.exponent - common));
    exponent = common;
  }

  SGF_HD double norm() const { return ldexp(sqrt(value), exponent); }
};

// Whether squares of f64 elements may have left the range of f64, or lost bits at its lower end.
SGF_HD bool is_out_of_range(double sum) { return !(sum > 0x1p-900 && sum < 0x1p1000); }

// The exponent of a gradient's sum of squares by its largest magnitude.
SGF_HD int exponent_of(double largest) {
  return largest > 0.0 && largest < kAbsent ? ilogb(largest) : 0;
}

// The larger of two magnitudes; NaN if one is.
SGF_HD double larger(double a, double b) { return a != a || a > b ? a : b; }

// The norm of gradients that have been multiplied by a number whose reciprocal is `unscale`.
SGF_HD double norm_of(const SquareSum& sum, double unscale) { return sum.norm() * fabs(unscale); }

// `wide`: one of those that share the norm is of f64.
SGF_HD double clip_coefficient(double norm, double max_norm, bool wide) {
  return wide ? clip_coefficient<double>(norm, max_norm)
              : static_cast<double>(clip_coefficient<float>(norm, max_norm));
}

// The stage of a gradient whose scope has this sum of squares.
SGF_HD GradientStage stage_of(const SgdParams& params, double unscale, const SquareSum& sum,
                              bool wide) {
  GradientStage stage{unscale, params.clip_value};
  if (params.max_norm != kAbsent) {
    stage.scale *= clip_coefficient(norm_of(sum, unscale), params.max_norm, wide);
  }
  return stage;
}

}  // namespace subgrad
