// The SGD rule: every equation of the dense step, once. The order of operations is that of
// torch.optim.SGD's default implementation, in which x.add(y, alpha=a) is fma(a, y, x); that is
// what makes the results the same bits. See "Bit-identity" in docs/design.md before changing a
// line.
#pragma once

#include "core/macros.h"
#include "core/math.h"
#include "core/sgd_params.h"
#include "core/types.h"
#include "rules/prox.h"

namespace subgrad {

enum class Decay { none, coupled, decoupled };

// What happens to the momentum buffer: there is none; it is set to the gradient (first step, its
// old contents are never read); it is decayed and added to.
enum class Buffer { none, set, accumulate };

// What the new weight goes through: nothing, or the proximal operator of lr * l1 * |w|.
enum class Prox { none, l1 };

inline namespace SGF_ISA {

// What the equations multiply by. C is the arithmetic type, float or double.
template <class C>
struct SgdCoefficients {
  C minus_lr, momentum, gradient_share, weight_decay, decay_factor, gradient_scale;
  SoftThreshold<C> soft_threshold;

  // Differences are taken in double and rounded once, as Python does before it hands a scalar to
  // torch. `scale`: what the gradient is multiplied by before all else.
  static SGF_HD SgdCoefficients of(const SgdParams& p, double scale = 1.0) {
    return {static_cast<C>(-p.lr),
            static_cast<C>(p.momentum),
            static_cast<C>(1.0 - p.dampening),
            static_cast<C>(p.weight_decay),
            static_cast<C>(1.0 - p.lr * p.weight_decay),
            static_cast<C>(p.maximize ? -scale : scale),
            SoftThreshold<C>::of(p.lr * p.l1)};
  }
};

template <class C, Decay kDecay, Buffer kBuffer, bool kNesterov, Prox kProx = Prox::none>
struct Sgd : SgdCoefficients<C> {
  static constexpr bool reads_momentum = kBuffer == Buffer::accumulate;
  static constexpr bool writes_momentum = kBuffer != Buffer::none;

  using Coefficients = SgdCoefficients<C>;
  using Coefficients::decay_factor;
  using Coefficients::gradient_scale;
  using Coefficients::gradient_share;
  using Coefficients::minus_lr;
  using Coefficients::momentum;
  using Coefficients::soft_threshold;
  using Coefficients::weight_decay;

  SGF_HD explicit Sgd(const Coefficients& c) : Coefficients(c) {}
  SGF_HD explicit Sgd(const SgdParams& p, double scale = 1.0)
      : Coefficients(Coefficients::of(p, scale)) {}

  // w: parameter, m: momentum buffer, g: gradient.
  template <class V>
  SGF_HD void operator()(V& w, V& m, V g) const {
    const V step = direction(w, m, g);
    w = fma(splat<V>(minus_lr), step, w);
    if constexpr (kProx == Prox::l1) w = soft_threshold(w);
  }

  // All that comes before: what is to be subtracted, before the learning rate. The thresholded step
  // adds it to what it holds back.
  template <class V>
  SGF_HD V direction(V& w, V& m, V g) const {
    g = mul(splat<V>(gradient_scale), g);
    if constexpr (kDecay == Decay::coupled) g = fma(splat<V>(weight_decay), w, g);
    if constexpr (kDecay == Decay::decoupled) w = mul(splat<V>(decay_factor), w);
    if constexpr (kBuffer == Buffer::set) m = g;
    if constexpr (kBuffer == Buffer::accumulate) {
      m = fma(splat<V>(gradient_share), g, mul(splat<V>(momentum), m));
    }
    V step = g;
    if constexpr (kNesterov) {
      step = fma(splat<V>(momentum), m, g);
    } else if constexpr (kBuffer != Buffer::none) {
      step = m;
    }
    return step;
  }
};

}  // namespace SGF_ISA
}  // namespace subgrad
