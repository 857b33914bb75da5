// Alias tables: weighted draws in constant time.
#pragma once

#include <cstdint>

#include "cpu/support/large_array.h"
#include "samplers/weighted.h"

namespace subgrad {

// Non-negative finite weights as integers: w * 2^shift, cut. The power is chosen from the largest
// weight so that n of them add up to less than 2^62. Integer sums depend neither on order nor on
// threads.
struct WeightScale {
  int shift = 0;
  std::uint64_t operator()(double weight) const;
};
int exponent_bound(double weight);  // the least e with weight < 2^e
WeightScale weight_scale(std::uint64_t n, int exponent);

// What a first look at weights finds.
struct WeightCheck {
  std::int64_t bad = -1;  // the first that is negative, NaN or infinite
  double largest = 0.0;
};
WeightCheck check_weights(const double* weights, std::int64_t n);

class AliasTable {
 public:
  // All weights must be finite and >= 0, one of them > 0. Built by all threads; the same table for
  // any number of them.
  AliasTable(const double* weights, std::int64_t n, WeightScale scale);

  // Draws number start, start + 1, ...
  void draw(std::uint64_t key, std::uint64_t start, std::int64_t count, std::int64_t* out) const;
  std::uint64_t total() const { return total_; }  // of the weights as integers
  const AliasColumn* columns() const { return columns_.get(); }
  // Whether `word` gives a draw; the index.
  bool pick(std::uint64_t word, std::uint64_t& index) const {
    return alias_pick(columns_.get(), n_, word, index);
  }

 private:
  void fetch(std::uint64_t word) const {
#if defined(__GNUC__)
    __builtin_prefetch(columns_.get() + mul_wide(word, n_).high);
#endif
    (void)word;
  }

  std::uint64_t n_;
  std::uint64_t total_ = 0;
  LargeArray<AliasColumn> columns_;
};

}  // namespace subgrad
