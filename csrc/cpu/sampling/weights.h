// A set of weights and what is drawn from it: through an alias table until a weight changes,
// through a tree of sums from then on.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <shared_mutex>
#include <vector>

#include "cpu/sampling/alias.h"
#include "cpu/sampling/sum_tree.h"
#include "cpu/support/fork_mutex.h"

namespace subgrad {

// Draws and changes may come from different threads.
class Weights {
 public:
  // Weights that passed check_weights, one of them positive; `largest` is theirs. With `exponent`
  // the tree is used from the start, at that scale (see exponent()) if updates would keep it.
  Weights(std::vector<double> weights, double largest, std::optional<int> exponent = std::nullopt);

  std::int64_t n() const { return static_cast<std::int64_t>(weights_.size()); }
  const std::vector<double>& values() const { return weights_; }
  std::int64_t positive() const { return positive_; }
  bool changed() const { return tree_ != nullptr; }
  // The alias table's n columns; null once a weight has changed.
  const AliasColumn* columns() const { return table_ != nullptr ? table_->columns() : nullptr; }
  int exponent() const { return exponent_; }  // of the scale: the mean weight is below 2^exponent

  // The mean weight / the weight at each index; infinite for a weight of zero.
  void importance(const std::int64_t* indices, std::int64_t count, double* out) const;

  void draw(std::uint64_t key, std::uint64_t start, std::int64_t count, std::int64_t* out) const;
  // k different ones. Returns false, and draws nothing, if fewer weights are positive.
  bool draw_distinct(std::uint64_t key, std::int64_t k, std::int64_t* out) const;

  // Returns false, and changes nothing, if no weight would be left. Indices must be in range, new
  // weights must have passed check_weights.
  bool update(const std::int64_t* indices, const double* weights, std::int64_t count);

  // For each weight an integer in proportion to the probability that draws give it.
  std::vector<std::uint64_t> masses() const;

 private:
  void plant();  // the tree, at the scale as it is or, if that does not fit, at another
  std::uint64_t total() const { return tree_ != nullptr ? tree_->total() : table_->total(); }
  std::uint64_t total_after(const double* before, const double* after, std::int64_t count) const;

  mutable ForkMutex<std::shared_mutex> mutex_;
  std::vector<double> weights_;
  std::int64_t positive_ = 0;
  int exponent_ = 0;
  std::unique_ptr<AliasTable> table_;
  std::unique_ptr<SumTree> tree_;
};

}  // namespace subgrad
