// The parts of the thresholded step over one contiguous run, written once and compiled per
// instruction set. threshold.cpp strings them together on runs that stay in the first-level cache.
#include "core/types.h"
#include "cpu/kernel_table.h"
#include "cpu/simd/registers_of.h"
#include "rules/select.h"
#include "rules/table.h"
#include "rules/threshold.h"

namespace subgrad {
inline namespace SGF_ISA {

// residual += direction. Per element the gradient is read once, momentum and residual are read and
// written once, and the parameter is read if its decay is part of the direction.
template <class Rule, bool reads_param, class C, class P, class G>
void threshold_accumulate(const void* param, const void* grad, void* momentum, void* residual,
                          std::int64_t n, const SgdParams& params) {
  using V = Vec<C>;
  using M = Memory<V>;
  const Rule rule(params);
  const P* w = static_cast<const P*>(param);
  const G* g = static_cast<const G*>(grad);
  C* m = static_cast<C*>(momentum);
  C* v = static_cast<C*>(residual);
  registers_of<V>(n, [&](std::int64_t i, auto... rest) {
    V weight{}, buffer{};
    if constexpr (reads_param) weight = M::load(w + i, rest...);
    if constexpr (Rule::reads_momentum) buffer = M::load(m + i, rest...);
    const V direction = rule.direction(weight, buffer, M::load(g + i, rest...));
    const V held = accumulated(M::load(v + i, rest...), direction);
    if constexpr (Rule::writes_momentum) M::store(m + i, buffer, rest...);
    M::store(v + i, held, rest...);
  });
}

// Calls body as registers_of does, but only for registers of which something is kept. They are
// listed first, without a branch: a few in a hundred are, where no branch can be predicted. And
// their parameters are fetched all at once: stores queue up behind a parameter that is waited for,
// so that the body by itself would have few of them on their way.
template <class V, class C, class P, class Body>
SGF_INLINE void kept_registers_of(const C* v, const P* param, std::int64_t n, key_t<C> cut,
                                  const Body& body) {
  constexpr int width = Memory<V>::width, most = 64;
  std::int64_t i = 0;
  while (i + width <= n) {
    std::int16_t listed[most];
    const auto registers = static_cast<int>(n - i < most * width ? (n - i) / width : most);
    int count = 0;
    for (int r = 0; r < registers; ++r) {
      listed[count] = static_cast<std::int16_t>(r * width);
      count += lane_bits(at_least(Memory<V>::load(v + i + r * width), cut)) != 0;
    }
    for (int l = 0; l < count; ++l) SGF_PREFETCH(param + i + listed[l]);
    for (int l = 0; l < count; ++l) body(i + listed[l]);
    i += registers * width;
  }
  if constexpr (width > 1) {
    if (i < n) body(i, static_cast<int>(n - i));
  }
}

// Reports kept lanes, each behind those before it.
template <class V>
struct Reporter {
  const KeptLanes& to;
  std::int64_t count = 0;

  SGF_INLINE void put(V v, unsigned bits, std::int64_t i) {
    if (to.indices != nullptr) {
      if (to.index_bytes == 4) {
        put_indices<std::int32_t>(bits, i);
      } else {
        put_indices<std::int64_t>(bits, i);
      }
      Memory<V>::store(static_cast<lane_t<V>*>(to.values) + count, compact(v, bits));
    }
    count += count_lanes(bits);
  }

 private:
  template <class I>
  SGF_INLINE void put_indices(unsigned bits, std::int64_t i) {
    LaneNumbers<V>::store(static_cast<I*>(to.indices) + count, to.first + i, bits);
  }
};

// Applies what is kept. A register of which nothing is kept costs the look at its residual: neither
// its parameters nor its momentum are touched, unless all parameters shrink. Returns how many
// elements were kept. `momentum` is null where it is not to be forgotten.
template <class C, class P, Decay decay>
std::int64_t threshold_release(void* param, void* momentum, void* residual, std::int64_t n,
                               const SgdParams& params, std::uint64_t cut, const KeptLanes& to) {
  using V = Vec<C>;
  using M = Memory<V>;
  const Release<C, decay> release(params);
  const auto key = static_cast<key_t<C>>(cut);
  P* w = static_cast<P*>(param);
  C* m = static_cast<C*>(momentum);
  C* v = static_cast<C*>(residual);
  Reporter<V> reporter{to};
  const auto body = [&](std::int64_t i, auto... rest) {
    V held = M::load(v + i, rest...), weight = M::load(w + i, rest...), buffer{};
    if (m != nullptr) buffer = M::load(m + i, rest...);
    const auto kept = at_least(held, key);
    reporter.put(held, lane_bits(kept) & valid_lanes(rest...), i);
    release(kept, weight, buffer, held);
    M::store(w + i, weight, rest...);
    if (m != nullptr) M::store(m + i, buffer, rest...);
    M::store(v + i, held, rest...);
  };
  if constexpr (decay == Decay::none) {
    kept_registers_of<V>(v, w, n, key, body);
  } else {
    registers_of<V>(n, body);
  }
  return reporter.count;
}

// Moves what is kept from the residual to `taken`, for a dense step with that as its gradient.
template <class C>
std::int64_t threshold_take(void* residual, void* taken, std::int64_t n, std::uint64_t cut,
                            const KeptLanes& to) {
  using V = Vec<C>;
  using M = Memory<V>;
  C* v = static_cast<C*>(residual);
  C* t = static_cast<C*>(taken);
  Reporter<V> reporter{to};
  registers_of<V>(n, [&](std::int64_t i, auto... rest) {
    V held = M::load(v + i, rest...);
    const auto kept = at_least(held, static_cast<key_t<C>>(cut));
    reporter.put(held, lane_bits(kept) & valid_lanes(rest...), i);
    M::store(t + i, take(kept, held), rest...);
    M::store(v + i, held, rest...);
  });
  return reporter.count;
}

// Decoupled weight decay and a proximal step are no part of a direction, and momentum has the
// arithmetic's type: the other cells of the table stay empty.
template <int rule, int types>
constexpr AccumulateKernel accumulate_kernel() {
  constexpr DenseTypes t = kDenseTypes[types];
  using P = element_t<t.param>;
  using C = compute_t<P>;
  constexpr bool reads_param = kSgdRows[rule].decay == Decay::coupled;
  if constexpr (!is_direction(kSgdRows[rule]) || t.momentum != compute_dtype(t.param)) {
    return nullptr;
  } else if constexpr (reads_param) {
    return &threshold_accumulate<SgdRule<C, rule>, true, C, P, element_t<t.grad>>;
  } else {  // one kernel for all parameter types
    return &threshold_accumulate<SgdRule<C, rule>, false, C, C, element_t<t.grad>>;
  }
}

template <int rule, int types>
constexpr void fill_accumulate_rule(KernelTable& table) {
  table.accumulate[rule][types] = accumulate_kernel<rule, types>();
  if constexpr (types + 1 < kDenseTypeRows) fill_accumulate_rule<rule, types + 1>(table);
}

template <int rule>
constexpr void fill_accumulate(KernelTable& table) {
  fill_accumulate_rule<rule, 0>(table);
  if constexpr (rule + 1 < kSgdRules) fill_accumulate<rule + 1>(table);
}

template <DType type>
constexpr void fill_release(KernelTable& table) {
  using P = element_t<type>;
  using C = compute_t<P>;
  table.release[int(type)] = {&threshold_release<C, P, Decay::none>,
                              &threshold_release<C, P, Decay::decoupled>};
}

constexpr void fill_threshold(KernelTable& table) {
  fill_accumulate<0>(table);
  fill_release<DType::f32>(table);
  fill_release<DType::f64>(table);
  fill_release<DType::bf16>(table);
  fill_release<DType::f16>(table);
  table.take[int(DType::f32)] = &threshold_take<float>;
  table.take[int(DType::f64)] = &threshold_take<double>;
}

}  // namespace SGF_ISA
}  // namespace subgrad
