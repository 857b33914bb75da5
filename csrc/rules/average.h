// The moving average of weights.
#pragma once

#include "core/macros.h"
#include "core/math.h"

namespace subgrad {
inline namespace SGF_ISA {

// e + (1 - decay) * (w - e), in the two forms of torch.lerp, which keep either end exact.
template <class C>
struct Lerp {
  C factor;  // of w - e
  bool from_end;

  Lerp() = default;
  SGF_HD explicit Lerp(double decay) {
    const C share = static_cast<C>(1.0 - decay);
    from_end = share >= C(0.5);
    factor = from_end ? share - C(1) : share;
  }

  template <class V>
  SGF_HD V operator()(V e, V w) const {
    return fma(splat<V>(factor), sub(w, e), from_end ? w : e);
  }
};

}  // namespace SGF_ISA
}  // namespace subgrad
