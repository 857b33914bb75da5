// What becomes of a gradient before the rule meets it: the coefficient that brings a norm within
// its bound, and the stage that multiplies and limits elements.
#pragma once

#include "core/macros.h"
#include "core/math.h"
#include "core/work.h"

namespace subgrad {
inline namespace SGF_ISA {

// min(1, max_norm / (norm + 1e-6)), as torch.nn.utils.clip_grad_norm_ computes it in the type C, a
// division by way of the reciprocal included: the same norm makes the same bits. A norm that is NaN
// makes a coefficient that is NaN, and so does an infinite one where the bound is infinite too.
template <class C>
SGF_HD C clip_coefficient(double norm, double max_norm) {
  const C reciprocal = C(1) / (static_cast<C>(norm) + C(1e-6));
  const C coefficient = reciprocal * static_cast<C>(max_norm);
  return coefficient > C(1) ? C(1) : coefficient;
}

// An element of a gradient: times `scale`, held within [-limit, limit]. NaN stays NaN.
template <class C>
struct Clip {
  C scale, limit;

  Clip() = default;
  SGF_HD explicit Clip(const GradientStage& stage)
      : scale(static_cast<C>(stage.scale)), limit(static_cast<C>(stage.limit)) {}

  template <class V>
  SGF_HD V operator()(V g) const {
    return within(mul(splat<V>(scale), g), splat<V>(-limit), splat<V>(limit));
  }
};

}  // namespace SGF_ISA
}  // namespace subgrad
