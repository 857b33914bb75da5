// Formulas that pull weights towards zero: the proximal operators of sparsity penalties.
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

  template <class V>
  SGF_HD V operator()(V w) const {
    return sub(w, clamp(w, splat<V>(-threshold), splat<V>(threshold)));
  }
};

}  // namespace SGF_ISA
}  // namespace subgrad
