// The norms of gradients, and gradients changed in place: what clipping does.
#pragma once

#include <cstdint>
#include <vector>

#include "core/work.h"
#include "cpu/support/recycled.h"
#include "rules/norm.h"

namespace subgrad {

// Sums of squares by gradient. Elements are added in the order of the layout, in blocks of
// kNormBlock of fixed lanes; blocks in their order. One pass over memory, one parallel region;
// the same bits for any number of threads and on every instruction set.
using SquareSums = Recycled<SquareSum>;
SquareSums square_sums(const std::vector<Gradient>& gradients);

// The largest magnitude of all elements; NaN if one is NaN; 0 of none.
double largest_magnitude(const std::vector<Gradient>& gradients);

// By gradient.
using Stages = Recycled<GradientStage>;

// Takes every element through its gradient's stage, in place, rounded once to its own type.
void clip_gradients(const std::vector<Gradient>& gradients, const Stages& stages);

}  // namespace subgrad
