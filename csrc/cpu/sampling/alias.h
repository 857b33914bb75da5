// Alias tables: weighted draws in constant time.
#pragma once

#include <cstdint>
#include <vector>

#include "cpu/sampling/scale.h"
#include "cpu/support/large_array.h"
#include "samplers/weighted.h"

namespace subgrad {

class AliasTable {
 public:
  // All weights must be finite and >= 0, one of them > 0 at this scale, and their sum less than
  // kFull. Built by all threads; the same table for any number of them.
  AliasTable(const double* weights, std::int64_t n, const WeightScale& scale);

  // Draws number start, start + 1, ...
  void draw(std::uint64_t key, std::uint64_t start, std::int64_t count, std::int64_t* out) const;
  std::uint64_t total() const { return total_; }  // of the weights as integers
  const AliasColumn* columns() const { return columns_.get(); }
  std::vector<std::uint64_t> masses() const;  // of the rows in all columns
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
