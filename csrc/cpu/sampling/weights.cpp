#include "cpu/sampling/weights.h"

#include <algorithm>
#include <mutex>

#include "cpu/sampling/distinct.h"

namespace subgrad {
namespace {

// With more than this share of the rows wanted, the race of all is quicker than drawing until so
// many different ones were seen.
constexpr std::int64_t kRaceShare = 8;

// Exponents lie between those of the lightest weight and of the sum of the heaviest ones.
constexpr int kMostExponent = 1200;

// Whether updates keep the scale at which the weights have this sum. A scale begins with 59 bits or
// more, so an update scales anew only after the sum has changed by a large factor.
bool fits(std::uint64_t total) { return total >> 56 != 0 && total < WeightScale::kFull; }

std::int64_t count_positive(const std::vector<double>& weights) {
  return std::count_if(weights.begin(), weights.end(), [](double w) { return w > 0.0; });
}

}  // namespace

Weights::Weights(std::vector<double> weights, double largest, std::optional<int> exponent)
    : weights_(std::move(weights)), positive_(count_positive(weights_)) {
  if (exponent.has_value()) {
    exponent_ = std::clamp(*exponent, -kMostExponent, kMostExponent);
    plant();
  } else {
    exponent_ = fitting_exponent(weights_.data(), n(), largest);
    table_ = std::make_unique<AliasTable>(weights_.data(), n(), weight_scale(n(), exponent_));
  }
}

void Weights::plant() {
  int exponent = exponent_;
  if (!fits(weight_scale(n(), exponent).sum(weights_.data(), n()))) {
    const double largest = *std::max_element(weights_.begin(), weights_.end());
    exponent = fitting_exponent(weights_.data(), n(), largest);
  }
  tree_ = std::make_unique<SumTree>(weights_.data(), n(), weight_scale(n(), exponent));
  exponent_ = exponent;
}

void Weights::importance(const std::int64_t* indices, std::int64_t count, double* out) const {
  const std::shared_lock<std::shared_mutex> lock(mutex_.get());
  // At the integers' scale no mean overflows, and a weight that becomes 0 is so light that the
  // quotient is no double anyway.
  const double mean = static_cast<double>(total()) / static_cast<double>(n());
  const WeightScale scale = weight_scale(n(), exponent_);
  for (std::int64_t i = 0; i < count; ++i) {
    out[i] = mean / scale.scaled(weights_[static_cast<std::size_t>(indices[i])]);
  }
}

void Weights::draw(std::uint64_t key, std::uint64_t start, std::int64_t count,
                   std::int64_t* out) const {
  const std::shared_lock<std::shared_mutex> lock(mutex_.get());
  if (tree_ != nullptr) {
    tree_->draw(key, start, count, out);
  } else {
    table_->draw(key, start, count, out);
  }
}

bool Weights::draw_distinct(std::uint64_t key, std::int64_t k, std::int64_t* out) const {
  const std::shared_lock<std::shared_mutex> lock(mutex_.get());
  if (k > positive_) return false;
  if (k > positive_ / kRaceShare) {
    weighted_order(weights_.data(), n(), key, k, out);
  } else if (tree_ != nullptr) {
    distinct_draws(*tree_, weights_.data(), n(), key, k, out);
  } else {
    distinct_draws(*table_, weights_.data(), n(), key, k, out);
  }
  return true;
}

bool Weights::update(const std::int64_t* indices, const double* weights, std::int64_t count) {
  const std::unique_lock<std::shared_mutex> lock(mutex_.get());
  const auto set = [&](std::int64_t index, double weight) {
    double& old = weights_[static_cast<std::size_t>(index)];
    positive_ += (weight > 0.0 ? 1 : 0) - (old > 0.0 ? 1 : 0);
    std::swap(old, weight);
    return weight;
  };
  std::vector<double> before(static_cast<std::size_t>(count));
  for (std::int64_t i = 0; i < count; ++i) {
    before[static_cast<std::size_t>(i)] = set(indices[i], weights[i]);
  }
  const auto restore = [&] {
    for (std::int64_t i = count; i-- > 0;) set(indices[i], before[static_cast<std::size_t>(i)]);
  };
  if (positive_ == 0) {
    restore();
    return false;
  }
  if (tree_ != nullptr && fits(total_after(before.data(), weights, count))) {
    for (std::int64_t i = 0; i < count; ++i) {
      tree_->set(static_cast<std::uint64_t>(indices[i]), weights[i]);
    }
    return true;
  }
  try {
    plant();
  } catch (...) {
    restore();
    throw;
  }
  table_.reset();
  return true;
}

// The tree's total once these weights have changed, one after the other.
std::uint64_t Weights::total_after(const double* before, const double* after,
                                   std::int64_t count) const {
  const WeightScale scale = weight_scale(n(), exponent_);
  std::uint64_t total = tree_->total();
  for (std::int64_t i = 0; i < count && total < WeightScale::kFull; ++i) {
    total += scale(after[i]) - scale(before[i]);  // modulo 2^64
  }
  return total;
}

std::vector<std::uint64_t> Weights::masses() const {
  if (tree_ == nullptr) return table_->masses();
  const std::vector<std::uint64_t>& integers = tree_->integers();
  return {integers.begin(), integers.begin() + n()};
}

}  // namespace subgrad
