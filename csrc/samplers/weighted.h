// One draw from a weighted set: Walker's alias method ("An efficient method for generating discrete
// random variables with general distributions", 1977) with integer thresholds, and the exponential
// clocks of Efraimidis and Spirakis ("Weighted random sampling with a reservoir", 2006).
#pragma once

#include <cstdint>

#include "core/philox.h"

namespace subgrad {

// A column of an alias table: the word's fraction below the threshold keeps the column's own index.
// A weight of zero has threshold zero, below which there is nothing.
struct alignas(16) AliasColumn {  // so that a GPU reads it at once
  std::uint64_t threshold, alias;
};

inline namespace SGF_ISA {

// Whether `word` gives a draw from the table's n columns without bias; the index.
SGF_HD bool alias_pick(const AliasColumn* table, std::uint64_t n, std::uint64_t word,
                       std::uint64_t& index) {
  if (!bounded(word, n, index)) return false;
  const AliasColumn column = table[index];
  // Even odds: a mask, so that no compiler makes it a branch.
  const bool keeps = mul_wide(word, n).low < column.threshold;
  index ^= (index ^ column.alias) & (std::uint64_t{keeps} - 1);
  return true;
}

// The natural logarithm in plain arithmetic: the C library's differs between versions and
// processors, and an order of rows may not. Relative error below 1e-15. x: a positive normal
// number.
SGF_HD double fixed_log(double x) {
  std::uint64_t bits;
  memcpy(&bits, &x, sizeof bits);
  int exponent = static_cast<int>(bits >> 52) - 1023;
  bits = (bits & 0xfffffffffffffu) | 0x3ff0000000000000u;
  double m;
  memcpy(&m, &bits, sizeof m);
  if (m > 1.4142135623730951) {
    m *= 0.5;
    ++exponent;
  }
  // log m = 2 atanh(s): the terms fall by s^2 < 0.03 each.
  const double s = (m - 1.0) / (m + 1.0);
  const double t = s * s;
  double sum = 0.0;
  for (int k = 19; k >= 1; k -= 2) sum = sum * t + 1.0 / k;
  return exponent * 0.6931471805599453 + 2.0 * s * sum;
}

// When an item of this weight is drawn, if the weights race: an exponential time of rate `weight`.
// The k earliest are a draw of k without replacement, in order. Times of the lightest and of the
// heaviest weights are no doubles, so this is an integer that orders as the times do: the bits of a
// double with one more bit of exponent.
SGF_HD std::uint64_t arrival_time(std::uint64_t word, double weight) {
  const double u = (static_cast<double>(word >> 12) + 0.5) * 0x1p-52;
  const bool denormal = weight < 0x1p-1022;
  const double normal = denormal ? weight * 0x1p52 : weight;
  std::uint64_t bits;
  memcpy(&bits, &normal, sizeof bits);
  // weight = m * 2^exponent with m in [1, 2).
  const int exponent = static_cast<int>(bits >> 52) - 1023 - (denormal ? 52 : 0);
  bits = (bits & 0xfffffffffffffu) | 0x3ff0000000000000u;
  double m;
  memcpy(&m, &bits, sizeof m);
  const double time = -fixed_log(u) / m;
  memcpy(&bits, &time, sizeof bits);
  return bits + (static_cast<std::uint64_t>(1023 - exponent) << 52);
}

}  // namespace SGF_ISA
}  // namespace subgrad
