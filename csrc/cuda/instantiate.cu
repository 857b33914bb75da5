// Compiles every rule for the device, so that nobody writes a formula CUDA cannot take. No kernel
// here is launched; the real ones come with the CUDA backend.
#include <utility>

#include "core/convert.h"
#include "rules/list.h"

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
void fill_instantiated() { name_all(instantiated, std::make_integer_sequence<int, kSgdRules>{}); }

}  // namespace subgrad
