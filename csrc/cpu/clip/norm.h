// The norms of gradients, and gradients changed in place: what clipping does.
#pragma once

#include <cstdint>
#include <vector>

#include "core/work.h"

namespace subgrad {

// Sums of squares by gradient, each times 4^exponent: an exponent other than 0 keeps squares of f64
// elements within the range of f64.
struct SquareSums {
  std::vector<double> sums;
  int exponent = 0;

  // The norm of those gradients whose squares add up to `sum`.
  double norm(double sum) const;
};

// Elements are added in the order of the layout, in blocks of kBlockElements of fixed lanes; blocks
// in their order. One pass over memory, one parallel region; the same bits for any number of
// threads and on every instruction set. A sum is finite exactly if all elements are (save where the
// norm itself is beyond f64).
SquareSums square_sums(const std::vector<Gradient>& gradients);

// The largest magnitude of all elements; NaN if one is NaN; 0 of none.
double largest_magnitude(const std::vector<Gradient>& gradients);

// Takes every element through its gradient's stage, in place, rounded once to its own type.
void clip_gradients(const std::vector<Gradient>& gradients,
                    const std::vector<GradientStage>& stages);

}  // namespace subgrad
