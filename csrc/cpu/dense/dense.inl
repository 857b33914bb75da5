// The dense step over one contiguous run, written once and compiled per instruction set. Includes
// nothing of the standard library on purpose: see core/macros.h on SGF_ISA.
#include "core/types.h"
#include "cpu/kernel_table.h"
#include "rules/table.h"

namespace subgrad {
inline namespace SGF_ISA {

template <class T>
inline constexpr bool is_bf16 = false;
template <>
inline constexpr bool is_bf16<bf16> = true;

// Two registers of one operand. By halves they hold every other element each.
template <bool by_halves, class V, class T>
SGF_INLINE void load_two(const T* p, V& a, V& b) {
  if constexpr (by_halves) {
    Memory<V>::load_halves(p, a, b);
  } else {
    a = Memory<V>::load(p);
    b = Memory<V>::load(p + Memory<V>::width);
  }
}
template <bool by_halves, class V, class T>
SGF_INLINE void store_two(T* p, V a, V b) {
  if constexpr (by_halves) {
    Memory<V>::store_halves(p, a, b);
  } else {
    Memory<V>::store(p, a);
    Memory<V>::store(p + Memory<V>::width, b);
  }
}

// One register of each operand at index i: `n...` is nothing for a full register or the number of
// elements of a partial one. The momentum pointer may be null where the rule has no use for it.
template <class Rule, class V, class P, class G, class M>
struct DenseBlock {
  // Where all operands are bf16: which elements stand in a register matters to no step, and by
  // halves none has to change its place.
  static constexpr bool by_halves =
      is_bf16<P> && is_bf16<G> && (is_bf16<M> || !Rule::writes_momentum);

  V w, m, g;
  template <class... N>
  SGF_INLINE void load(const P* wp, const G* gp, const M* mp, std::int64_t i, N... n) {
    w = Memory<V>::load(wp + i, n...);
    g = Memory<V>::load(gp + i, n...);
    if constexpr (Rule::reads_momentum) m = Memory<V>::load(mp + i, n...);
  }
  template <class... N>
  SGF_INLINE void store(P* wp, M* mp, std::int64_t i, N... n) const {
    if constexpr (Rule::writes_momentum) Memory<V>::store(mp + i, m, n...);
    Memory<V>::store(wp + i, w, n...);
  }

  // The same of this block and the next one.
  SGF_INLINE void load_with(DenseBlock& next, const P* wp, const G* gp, const M* mp,
                            std::int64_t i) {
    load_two<by_halves>(wp + i, w, next.w);
    load_two<by_halves>(gp + i, g, next.g);
    if constexpr (Rule::reads_momentum) load_two<by_halves>(mp + i, m, next.m);
  }
  SGF_INLINE void store_with(const DenseBlock& next, P* wp, M* mp, std::int64_t i) const {
    if constexpr (Rule::writes_momentum) store_two<by_halves>(mp + i, m, next.m);
    store_two<by_halves>(wp + i, w, next.w);
  }
};

// Memory traffic per element: the parameter and the momentum are read and written once, the
// gradient is read once; nothing else moves. A few registers are loaded before any is stored:
// arrays that lie a multiple of 4 KiB apart would otherwise make each load wait for the store
// before it. The tail goes through the same rule with masked loads and stores.
template <class Rule, class P, class G, class M>
void dense_step(void* param, const void* grad, void* momentum, std::int64_t n,
                const SgdParams& params, double scale) {
  using V = Vec<compute_t<P>>;
  using Block = DenseBlock<Rule, V, P, G, M>;
  const Rule rule(params, scale);
  P* w = static_cast<P*>(param);
  const G* g = static_cast<const G*>(grad);
  M* m = static_cast<M*>(momentum);

  constexpr int width = Memory<V>::width, unroll = 4;
  std::int64_t i = 0;
  for (; i + unroll * width <= n; i += unroll * width) {
    Block block[unroll] = {};
    for (int u = 0; u < unroll; u += 2) block[u].load_with(block[u + 1], w, g, m, i + u * width);
    for (int u = 0; u < unroll; ++u) rule(block[u].w, block[u].m, block[u].g);
    for (int u = 0; u < unroll; u += 2) block[u].store_with(block[u + 1], w, m, i + u * width);
  }
  for (; i + width <= n; i += width) {
    Block block = {};
    block.load(w, g, m, i);
    rule(block.w, block.m, block.g);
    block.store(w, m, i);
  }
  if constexpr (width > 1) {
    const int rest = static_cast<int>(n - i);
    if (rest > 0) {
      Block block = {};
      block.load(w, g, m, i, rest);
      rule(block.w, block.m, block.g);
      block.store(w, m, i, rest);
    }
  }
}

template <int rule, int types>
constexpr DenseKernel dense_kernel() {
  using P = element_t<kDenseTypes[types].param>;
  using G = element_t<kDenseTypes[types].grad>;
  using Rule = SgdRule<compute_t<P>, rule>;
  // Without a momentum buffer its type does not matter: name one, so that the code is made once.
  constexpr DType momentum = Rule::writes_momentum ? kDenseTypes[types].momentum : DType::f32;
  return &dense_step<Rule, P, G, element_t<momentum>>;
}

template <int rule, int types>
constexpr void fill_dense_rule(KernelTable& table) {
  table.dense[rule][types] = dense_kernel<rule, types>();
  if constexpr (types + 1 < kDenseTypeRows) fill_dense_rule<rule, types + 1>(table);
}

template <int rule>
constexpr void fill_dense(KernelTable& table) {
  fill_dense_rule<rule, 0>(table);
  if constexpr (rule + 1 < kSgdRules) fill_dense<rule + 1>(table);
}

constexpr KernelTable make_kernel_table(const char* isa) {
  KernelTable table{};
  table.isa = isa;
  fill_dense<0>(table);
  fill_replay<0>(table);
  fill_sampling(table);
  fill_select<0>(table);
  fill_threshold(table);
  fill_sparsify<0>(table);
  fill_clip(table);
  return table;
}

}  // namespace SGF_ISA
}  // namespace subgrad
