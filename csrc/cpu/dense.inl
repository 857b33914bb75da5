// The dense step over one contiguous run, written once and compiled per instruction set. Includes
// nothing of the standard library on purpose: see core/macros.h on SGF_ISA.
#include "core/types.h"
#include "cpu/kernel_table.h"
#include "rules/list.h"

namespace subgrad {
inline namespace SGF_ISA {

// Memory traffic per element: the parameter and the momentum are read and written once, the gradient
// is read once; nothing else moves. The tail goes through the same rule with masked loads and stores.
template <class Rule, class P, class G, class M>
void dense_step(void* param, const void* grad, void* momentum, std::int64_t n,
                const SgdParams& params) {
  using V = Vec<compute_t<P>>;
  const Rule rule(params);
  P* w = static_cast<P*>(param);
  const G* g = static_cast<const G*>(grad);
  M* m = static_cast<M*>(momentum);

  constexpr int width = Memory<V>::width;
  std::int64_t i = 0;
  for (; i + width <= n; i += width) {
    V wv = Memory<V>::load(w + i);
    V mv = {};
    if constexpr (Rule::reads_momentum) mv = Memory<V>::load(m + i);
    rule(wv, mv, Memory<V>::load(g + i));
    if constexpr (Rule::writes_momentum) Memory<V>::store(m + i, mv);
    Memory<V>::store(w + i, wv);
  }
  if constexpr (width > 1) {
    const int rest = static_cast<int>(n - i);
    if (rest > 0) {
      V wv = Memory<V>::load(w + i, rest);
      V mv = {};
      if constexpr (Rule::reads_momentum) mv = Memory<V>::load(m + i, rest);
      rule(wv, mv, Memory<V>::load(g + i, rest));
      if constexpr (Rule::writes_momentum) Memory<V>::store(m + i, mv, rest);
      Memory<V>::store(w + i, wv, rest);
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
constexpr void fill_dense(KernelTable& table) {
  table.dense[rule][types] = dense_kernel<rule, types>();
  if constexpr (types + 1 < kDenseTypeRows) {
    fill_dense<rule, types + 1>(table);
  } else if constexpr (rule + 1 < kSgdRules) {
    fill_dense<rule + 1, 0>(table);
  }
}

constexpr KernelTable make_kernel_table(const char* isa) {
  KernelTable table{};
  table.isa = isa;
  fill_dense<0, 0>(table);
  fill_sample(table);
  return table;
}

}  // namespace SGF_ISA
}  // namespace subgrad
