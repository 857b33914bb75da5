// What the kernels over many tensors share: how a block finds its tensor in the list that travels
// with the launch as a kernel parameter, and how it branches to the tensor's rule.
#pragma once

#include <type_traits>

#include "rules/table.h"

namespace subgrad {

// The entry that a block works on is the last that begins no later than the block.
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

// The rows of kSgdRows that a predicate is true of, ascending.
using RowPredicate = bool (*)(const SgdRow&);
struct Rows {
  int count = 0;
  int row[kSgdRules] = {};

  constexpr explicit Rows(RowPredicate wanted) {
    for (int i = 0; i < kSgdRules; ++i) {
      if (wanted(kSgdRows[i])) row[count++] = i;
    }
  }
};
template <RowPredicate wanted>
inline constexpr Rows kRowsIf{wanted};

// Calls f with the number of the rule as a constant. The rule is one that the predicate is true of:
// each of these is a leaf of a binary tree of branches, which all threads of a block take alike.
template <RowPredicate wanted, int begin = 0, int end = kRowsIf<wanted>.count, class F>
__device__ __forceinline__ void with_rule_if(int rule, const F& f) {
  if constexpr (end - begin == 1) {
    f(std::integral_constant<int, kRowsIf<wanted>.row[begin]>{});
  } else {
    constexpr int middle = (begin + end) / 2;
    constexpr int first = kRowsIf<wanted>.row[middle];
    if (rule < first) {
      with_rule_if<wanted, begin, middle>(rule, f);
    } else {
      with_rule_if<wanted, middle, end>(rule, f);
    }
  }
}

constexpr bool is_any(const SgdRow&) { return true; }
template <class F>
__device__ __forceinline__ void with_rule(int rule, const F& f) {
  with_rule_if<is_any>(rule, f);
}

}  // namespace subgrad
