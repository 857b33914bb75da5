// Lists that travel with a launch, as a kernel parameter: how a block finds its place in one.
#pragma once

#include <type_traits>

#include "rules/table.h"

namespace subgrad {

// The entry that a block works on: the last that begins no later.
template <class List>
__device__ int segment_of(const List& list, int block) {
  int low = 0, high = list.count - 1;
  while (low < high) {
    const int middle = (low + high + 1) / 2;
    if (list.first_block[middle] <= block) {
      low = middle;
    } else {
      high = middle - 1;
    }
  }
  return low;
}

// Calls f with the number of the rule as a constant. The same for all threads of a block.
template <class F, int begin = 0, int end = kSgdRules>
__device__ __forceinline__ void with_rule(int rule, const F& f) {
  if constexpr (end - begin == 1) {
    f(std::integral_constant<int, begin>{});
  } else {
    constexpr int middle = (begin + end) / 2;
    if (rule < middle) {
      with_rule<F, begin, middle>(rule, f);
    } else {
      with_rule<F, middle, end>(rule, f);
    }
  }
}
template <int begin, int end, class F>
__device__ __forceinline__ void with_rule_of(int rule, const F& f) {
  with_rule<F, begin, end>(rule, f);
}

}  // namespace subgrad
