#include "cpu/sampling/scale.h"

#include <vector>

#include "core/bits.h"
#include "cpu/sampling/blocks.h"

namespace subgrad {

WeightCheck check_weights(const double* weights, std::int64_t n) {
  std::vector<WeightCheck> checks(static_cast<std::size_t>(blocks_of(n)));
  each_block(n, [&](std::int64_t block, std::int64_t begin, std::int64_t end) {
    WeightCheck check;
    for (std::int64_t i = end - 1; i >= begin; --i) {
      if (!(weights[i] >= 0.0 && weights[i] <= 1.7976931348623157e308)) check.bad = i;
      if (weights[i] > check.largest) check.largest = weights[i];
    }
    checks[static_cast<std::size_t>(block)] = check;
  });
  WeightCheck all;
  for (const WeightCheck& check : checks) {
    if (all.bad < 0) all.bad = check.bad;
    if (check.largest > all.largest) all.largest = check.largest;
  }
  return all;
}

std::uint64_t WeightScale::sum(const double* weights, std::int64_t n) const {
  std::vector<std::uint64_t> sums(static_cast<std::size_t>(blocks_of(n)));
  each_block(n, [&](std::int64_t block, std::int64_t begin, std::int64_t end) {
    // A sum that reaches kFull is seen there or just above: no single weight leads past 2^64.
    std::uint64_t sum = 0, seen = 0;
    for (std::int64_t i = begin; i < end; ++i) seen |= sum += (*this)(weights[i]);
    sums[static_cast<std::size_t>(block)] = seen < kFull ? sum : kFull;
  });
  std::uint64_t all = 0;
  for (const std::uint64_t sum : sums) all = std::min(all + sum, kFull);
  return all;
}

WeightScale weight_scale(std::int64_t n, int exponent) {
  return WeightScale(62 - ceil_log2(static_cast<std::uint64_t>(n)) - exponent);
}

int fitting_exponent(const double* weights, std::int64_t n, double largest) {
  const auto rows = static_cast<std::uint64_t>(n);
  int exponent = 0;
  std::frexp(largest, &exponent);  // largest < 2^exponent: that fits, but may leave much room
  for (;;) {
    const std::uint64_t sum = weight_scale(n, exponent).sum(weights, n);
    const int room = 61 - ceil_log2(sum + rows);  // what was cut of a row is less than 1
    if (room < 2) return exponent;
    exponent -= room;
    if (sum >= rows) return exponent;
  }
}

}  // namespace subgrad
