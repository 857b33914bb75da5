// The thresholded step, by parts: the direction of SGD is added to what is held back, and what is
// large enough moves the parameter. With momentum correction this is Deep Gradient Compression
// (Lin et al., 2018, arXiv:1712.01887).
#pragma once

#include "core/macros.h"
#include "core/math.h"
#include "rules/sgd.h"

namespace subgrad {

// The two parts of a step. Weight decay is part of the direction unless it is decoupled; so is
// momentum unless what is kept becomes its gradient. The application takes the rest.
struct ThresholdParts {
  SgdParams direction, application;
  bool releases;        // what is kept moves the parameter as it is: see Release
  bool masks_momentum;  // and is forgotten by the momentum
};
inline ThresholdParts threshold_parts(const SgdParams& p, bool momentum_correction,
                                      bool momentum_masking) {
  ThresholdParts parts = {p, p, momentum_correction || p.momentum == 0.0, false};
  parts.application.maximize = false;
  (p.decoupled_weight_decay ? parts.direction : parts.application).weight_decay = 0.0;
  if (parts.releases) {
    parts.masks_momentum = momentum_masking && p.momentum != 0.0;
  } else {
    parts.direction.momentum = 0.0;
    parts.direction.nesterov = false;
  }
  return parts;
}

inline namespace SGF_ISA {

// What is held where nothing is held: the additive identity. -0 + x is x for every x, while 0 + -0
// is 0; so a step that holds nothing back has the bits of SGD.
template <class V>
SGF_HD V nothing() {
  return splat<V>(lane_t<V>(-0.0));
}

// The residual with a step's direction added: v + d.
template <class V>
SGF_HD V accumulated(V v, V d) {
  return fma(splat<V>(lane_t<V>(1.0)), d, v);
}

// Splits the residual: the kept lanes are handed out and the rest stays held.
template <class Mask, class V>
SGF_HD V take(Mask kept, V& v) {
  const V taken = blend(kept, v, nothing<V>());
  v = blend(kept, nothing<V>(), v);
  return taken;
}

// Where a lane is kept its residual moves the parameter, and residual and momentum are forgotten
// (momentum factor masking). Decoupled weight decay shrinks every lane.
template <class C, Decay kDecay>
struct Release {
  static_assert(kDecay != Decay::coupled, "coupled weight decay is part of the direction");
  Sgd<C, kDecay, Buffer::none, false> sgd;

  SGF_HD explicit Release(const SgdParams& p) : sgd(p) {}
  SGF_HD explicit Release(const SgdCoefficients<C>& c) : sgd(c) {}

  template <class Mask, class V>
  SGF_HD void operator()(Mask kept, V& w, V& m, V& v) const {
    V moved = w;
    sgd(moved, m, v);
    sgd.direction(w, m, v);
    w = blend(kept, moved, w);
    m = blend(kept, nothing<V>(), m);
    v = blend(kept, nothing<V>(), v);
  }
};

}  // namespace SGF_ISA
}  // namespace subgrad
