// The k-th largest magnitude among all elements of some spans, as a key (rules/select.h).
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <vector>

#include "cpu/support/spans.h"

namespace subgrad {

// The k-th key: how many elements have it, and how many of these are among the k largest.
struct KthKey {
  std::uint64_t key;
  std::int64_t rank, equal;
};

// Exact, in two or three passes (f64: six) whose time depends on the number of elements only,
// whatever they are. 1 <= k <= their number. `add_up`: adds what has been counted elsewhere to the
// counts of a pass; the elements are then all that are counted.
KthKey find_kth_key(const std::vector<Span>& spans, std::int64_t k,
                    const std::function<void(std::vector<std::int64_t>&)>& add_up);
std::uint64_t kth_key(const std::vector<Span>& spans, std::int64_t k);

// A key that a sample suggests as a lower bound of the k-th: a little more than k elements are
// expected to reach it. Nothing where a sample does not pay.
std::optional<std::uint64_t> sampled_bound(const std::vector<Span>& spans, std::int64_t k);

}  // namespace subgrad
