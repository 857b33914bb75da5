// The k-th largest magnitude among all elements of some spans, as a key (rules/select.h).
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "cpu/support/spans.h"

namespace subgrad {

// Exact, in two or three passes (f64: six) whose time depends on the number of elements only,
// whatever they are. 1 <= k <= their number.
std::uint64_t kth_key(const std::vector<Span>& spans, std::int64_t k);

// A key that a sample suggests as a lower bound of the k-th: a little more than k elements are
// expected to reach it. Nothing where a sample does not pay.
std::optional<std::uint64_t> sampled_bound(const std::vector<Span>& spans, std::int64_t k);

}  // namespace subgrad
