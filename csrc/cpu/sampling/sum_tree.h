// Weights that change: a tree of integer sums. A draw and a change cost O(log n).
#pragma once

#include <cstdint>
#include <vector>

#include "cpu/sampling/scale.h"

namespace subgrad {

class SumTree {
 public:
  // All weights must be finite and >= 0, and their sum at this scale less than kFull. The same goes
  // for changes.
  SumTree(const double* weights, std::int64_t n, const WeightScale& scale);

  void set(std::uint64_t index, double weight);
  std::uint64_t total() const { return levels_.back()[0]; }  // of the weights as integers
  // These integers, and zeros behind the last.
  const std::vector<std::uint64_t>& integers() const { return levels_[0]; }

  // Whether `word` gives a draw; the index. The total must not be 0.
  bool pick(std::uint64_t word, std::uint64_t& index) const;

  // Draws number start, start + 1, ...
  void draw(std::uint64_t key, std::uint64_t start, std::int64_t count, std::int64_t* out) const;

 private:
  WeightScale scale_;
  // levels_[0]: the weights; each level above: the sums of kFan neighbours, zeros behind the last;
  // the last level: their total.
  std::vector<std::vector<std::uint64_t>> levels_;
};

}  // namespace subgrad
