// The norms of gradients, and gradients changed in place: what clipping does.
#pragma once

#include <cstdint>
#include <vector>

#include "core/work.h"
#include "cpu/support/recycled.h"

namespace subgrad {

// A sum of squares: `value` times 4^exponent. An exponent other than 0 keeps squares of f64
// elements within the range of f64; each gradient has its own, so that none of them hides another.
struct SquareSum {
  double value = 0.0;
  int exponent = 0;

  void add(const SquareSum& other);
  double norm() const;
};

// Sums of squares by gradient. Elements are added in the order of the layout, in blocks of
// kBlockElements of fixed lanes; blocks in their order. One pass over memory, one parallel region;
// the same bits for any number of threads and on every instruction set. A value is finite exactly
// if all elements are.
using SquareSums = Recycled<SquareSum>;
SquareSums square_sums(const std::vector<Gradient>& gradients);

// The largest magnitude of all elements; NaN if one is NaN; 0 of none.
double largest_magnitude(const std::vector<Gradient>& gradients);

// By gradient.
using Stages = Recycled<GradientStage>;

// Takes every element through its gradient's stage, in place, rounded once to its own type.
void clip_gradients(const std::vector<Gradient>& gradients, const Stages& stages);

}  // namespace subgrad
