// Compiles every rule for the device, so that nobody writes a formula CUDA cannot take. No kernel
// here is launched; the real ones come with the CUDA backend.
#include <utility>

#include "core/convert.h"
#include "rules/list.h"
#include "samplers/permute.h"
#include "samplers/weighted.h"

namespace subgrad {

template <int rule, int types>
__global__ void instantiate(element_t<kDenseTypes[types].param>* w,
                            const element_t<kDenseTypes[types].grad>* g,
                            element_t<kDenseTypes[types].momentum>* m, SgdParams params) {
  using P = element_t<kDenseTypes[types].param>;
  using M = element_t<kDenseTypes[types].momentum>;
  using C = compute_t<P>;
  const SgdRule<C, rule> step(params);
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  C wv = widen<C>(w[i]);
  C mv = widen<C>(m[i]);
  step(wv, mv, widen<C>(g[i]));
  m[i] = Narrow<M>::of(mv);
  w[i] = Narrow<P>::of(wv);
}

__global__ void instantiate_samplers(std::uint64_t n, const AliasColumn* table,
                                     const double* weights, std::uint64_t* rows, double* times) {
  const std::uint64_t i = blockIdx.x * blockDim.x + threadIdx.x;
  const Permutation order = make_permutation(n, epoch_key(1, 2, Purpose::permutation), 0);
  const std::uint64_t word = philox_words(3, i, counter_high(0, 0)).first;
  std::uint64_t index = 0;
  if (!alias_pick(table, n, word, index)) index = bounded_draw(3, i, n);
  rows[i] = unpermute(order, permute(order, index));
  times[i] = arrival_time(word, weights[i]);
}

// Naming a kernel's address makes the compiler emit it.
template <int rule, int... types>
void name_row(const void**& out, std::integer_sequence<int, types...>) {
  ((*out++ = reinterpret_cast<const void*>(&instantiate<rule, types>)), ...);
}

template <int... rules>
void name_all(const void** out, std::integer_sequence<int, rules...>) {
  (name_row<rules>(out, std::make_integer_sequence<int, kDenseTypeRows>{}), ...);
}

const void* instantiated[kSgdRules * kDenseTypeRows];
const void* instantiated_samplers;
void fill_instantiated() {
  name_all(instantiated, std::make_integer_sequence<int, kSgdRules>{});
  instantiated_samplers = reinterpret_cast<const void*>(&instantiate_samplers);
}

}  // namespace subgrad
