// Weighted draws without replacement.
#pragma once

#include <cstdint>

#include "cpu/sampling/alias.h"
#include "cpu/sampling/sum_tree.h"

namespace subgrad {

// The first k of the race of all positive weights (Efraimidis and Spirakis), in order: O(n). At
// least k weights must be positive.
void weighted_order(const double* weights, std::int64_t n, std::uint64_t key, std::int64_t k,
                    std::int64_t* out);

// k different indices one after the other, each with probability proportional to its weight among
// those that are left: the same distribution. With replacement until k different ones were seen;
// where that takes too long (a few weights hold nearly all), the race decides among those not yet
// drawn. Which of two weights comes next does not depend on how many repeats came before, so this
// is exact.
void distinct_draws(const AliasTable& table, const double* weights, std::int64_t n,
                    std::uint64_t key, std::int64_t k, std::int64_t* out);
void distinct_draws(const SumTree& tree, const double* weights, std::int64_t n, std::uint64_t key,
                    std::int64_t k, std::int64_t* out);

}  // namespace subgrad
