// A set of weights and what is drawn from it: through an alias table until a weight changes,
// through a tree of sums from then on.
#pragma once

#include <cstdint>
#include <memory>
#include <shared_mutex>
#include <vector>

#include "cpu/sampling/alias.h"
#include "cpu/sampling/sum_tree.h"

namespace subgrad {

// Draws and changes may come from different threads.
class Weights {
 public:
  // Weights that passed check_weights, one of them positive; `largest` is theirs. With `exponent`
  // the tree is used from the start, scaled for weights below 2^exponent (see exponent()), unless
  // that leaves too few bits of them.
  Weights(std::vector<double> weights, double largest);
  Weights(std::vector<double> weights, double largest, int exponent);

  std::int64_t n() const { return static_cast<std::int64_t>(weights_.size()); }
  const std::vector<double>& values() const { return weights_; }
  void values_at(const std::int64_t* indices, std::int64_t count, double* out) const;
  std::int64_t positive() const { return positive_; }
  double total() const;  // of the weights, the same for any order of summation
  bool changed() const { return tree_ != nullptr; }
  // The alias table's n columns; null once a weight has changed.
  const AliasColumn* columns() const { return table_ != nullptr ? table_->columns() : nullptr; }
  int exponent() const { return exponent_; }  // the scale: all weights are below 2^exponent

  void draw(std::uint64_t key, std::uint64_t start, std::int64_t count, std::int64_t* out) const;
  // k different ones; at least k weights must be positive.
  void draw_distinct(std::uint64_t key, std::int64_t k, std::int64_t* out) const;

  // Returns false, and changes nothing, if no weight would be left. Indices must be in range, new
  // weights must have passed check_weights.
  bool update(const std::int64_t* indices, const double* weights, std::int64_t count,
              double largest);

 private:
  WeightScale scale() const { return weight_scale(weights_.size(), exponent_); }
  void replant_if_faint();
  void plant() { tree_.reset(new SumTree(weights_.data(), n(), scale())); }

  mutable std::shared_mutex mutex_;
  std::vector<double> weights_;
  std::int64_t positive_ = 0;
  int exponent_;
  std::unique_ptr<AliasTable> table_;
  std::unique_ptr<SumTree> tree_;
};

}  // namespace subgrad
