// What the two kernels of the thresholded step have in common: a tile, and how what is kept moves
// it.
#pragma once

#include "core/convert.h"
#include "cuda/lists.cuh"
#include "cuda/threshold_list.cuh"

namespace subgrad {

// What the threads of a block share. One of them works it out: coefficients take arithmetic in
// double, of which many devices have little.
template <class C>
struct Shared {
  SgdCoefficients<C> direction, application;
  key_t<C> key;
};

template <class C>
__device__ void prepare(const ThresholdList& list, const ThresholdItem& s, Shared<C>& shared) {
  if (threadIdx.x == 0) {
    const ThresholdTerms& group = list.groups[s.group];
    SgdParams application = group.application;
    if (group.lr != nullptr) application.lr = *group.lr;
    shared.direction = SgdCoefficients<C>::of(group.direction);
    shared.application = SgdCoefficients<C>::of(application);
    shared.key = static_cast<key_t<C>>(list.scratch.scopes[s.scope].key);
  }
  __syncthreads();
}

// Moves parameters by what is kept. A parameter of which nothing is kept is written only where the
// rule moves all: a NaN would change on its way through the arithmetic's type.
template <class P, class C, int lanes>
__device__ void apply(const ThresholdItem& s, const SgdCoefficients<C>& coefficients,
                      const bool (&kept)[lanes], Pack<P, lanes>& w, C (&m)[lanes], C (&v)[lanes]) {
  const auto released = [&](const auto& release, bool all) {
#pragma unroll
    for (int k = 0; k < lanes; ++k) {
      C weight = widen<C>(w.lane[k]), forgotten = m[k];
      release(kept[k], weight, forgotten, v[k]);
      if (all || kept[k]) w.lane[k] = Narrow<P>::of(weight);
      if (s.masks_momentum) m[k] = forgotten;
    }
  };
  const auto stepped = [&](auto number) {
    const SgdRule<C, decltype(number)::value> step(coefficients);
#pragma unroll
    for (int k = 0; k < lanes; ++k) {
      C weight = widen<C>(w.lane[k]);
      step(weight, m[k], take(kept[k], v[k]));
      w.lane[k] = Narrow<P>::of(weight);
    }
  };
  if (s.application == kPlain) {
    released(Release<C, Decay::none>(coefficients), false);
  } else if (s.application == kDecaying) {
    released(Release<C, Decay::decoupled>(coefficients), true);
  } else {
    with_rule_if<applies_momentum>(s.application, stepped);
  }
}

// Each thread's own sums of squares. They are computed in double, where the square of an f32 is
// exact.
struct Energies {
  double kept = 0.0, rest = 0.0;

  template <class C, int lanes>
  __device__ void add(const C (&v)[lanes], const bool (&in)[lanes]) {
#pragma unroll
    for (int k = 0; k < lanes; ++k) {
      const double x = static_cast<double>(v[k]);
      if (in[k]) {  // a reference to one of the two would put both into memory
        kept = fma(x, x, kept);
      } else {
        rest = fma(x, x, rest);
      }
    }
  }
  __device__ void put(double2* to) const {
    const double all_kept = block_sum<kBlockThreads>(kept);
    const double all_rest = block_sum<kBlockThreads>(rest);
    if (threadIdx.x == 0) *to = {all_kept, all_rest};
  }
};

// The place where a block works is a tile of one tensor.
template <class P, class G, class C>
struct Place {
  const ThresholdItem& s;
  const int tile;
  const std::int64_t begin;
  const int n;
  P* const w;
  const G* const g;
  C* const m;
  C* const v;

  __device__ Place(const ThresholdList& list, int i)
      : s(list.segments[i]),
        tile(s.first_tile + int(blockIdx.x) - list.first_block[i]),
        begin(std::int64_t{tile - s.first_tile} * kTile),
        n(static_cast<int>(min(std::int64_t{kTile}, s.n - begin))),
        w(static_cast<P*>(s.param) + begin),
        g(static_cast<const G*>(s.grad) + begin),
        m(static_cast<C*>(s.momentum) + begin),
        v(static_cast<C*>(s.residual) + begin) {}

  // The end of what is done in packs. The elements behind it are done one by one.
  __device__ int packs_end() const {
    constexpr int lanes = 16 / sizeof(C);
    return s.packed ? n / lanes * lanes : 0;
  }
};

}  // namespace subgrad
