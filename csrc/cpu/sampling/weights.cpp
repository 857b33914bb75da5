#include "cpu/sampling/weights.h"

#include <algorithm>
#include <cmath>
#include <mutex>

#include "cpu/sampling/distinct.h"

namespace subgrad {
namespace {

// With more than this share of the rows wanted, the race of all is quicker than drawing until so
// many different ones were seen.
constexpr std::int64_t kRaceShare = 8;

// Updated weights are scaled anew when their sum has fewer bits than this, of some 40 to 60 at
// first.
constexpr int kKeptBits = 30;

std::int64_t count_positive(const std::vector<double>& weights) {
  return std::count_if(weights.begin(), weights.end(), [](double w) { return w > 0.0; });
}

}  // namespace

Weights::Weights(std::vector<double> weights, double largest)
    : weights_(std::move(weights)),
      positive_(count_positive(weights_)),
      exponent_(exponent_bound(largest)),
      table_(new AliasTable(weights_.data(), n(), scale())) {}

Weights::Weights(std::vector<double> weights, double largest, int exponent)
    : weights_(std::move(weights)),
      positive_(count_positive(weights_)),
      exponent_(std::max(exponent, exponent_bound(largest))) {
  plant();
  replant_if_faint();
}

double Weights::total() const {
  const std::uint64_t sum = tree_ != nullptr ? tree_->total() : table_->total();
  return std::ldexp(static_cast<double>(sum), -scale().shift);
}

void Weights::values_at(const std::int64_t* indices, std::int64_t count, double* out) const {
  for (std::int64_t i = 0; i < count; ++i) out[i] = weights_[static_cast<std::size_t>(indices[i])];
}

void Weights::draw(std::uint64_t key, std::uint64_t start, std::int64_t count,
                   std::int64_t* out) const {
  const std::shared_lock<std::shared_mutex> lock(mutex_);
  if (tree_ != nullptr) {
    tree_->draw(key, start, count, out);
  } else {
    table_->draw(key, start, count, out);
  }
}

void Weights::draw_distinct(std::uint64_t key, std::int64_t k, std::int64_t* out) const {
  const std::shared_lock<std::shared_mutex> lock(mutex_);
  if (k > positive_ / kRaceShare) {
    weighted_order(weights_.data(), n(), key, k, out);
  } else if (tree_ != nullptr) {
    distinct_draws(*tree_, weights_.data(), n(), key, k, out);
  } else {
    distinct_draws(*table_, weights_.data(), n(), key, k, out);
  }
}

bool Weights::update(const std::int64_t* indices, const double* weights, std::int64_t count,
                     double largest) {
  const std::unique_lock<std::shared_mutex> lock(mutex_);
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
  if (positive_ == 0) {
    for (std::int64_t i = count; i-- > 0;) set(indices[i], before[static_cast<std::size_t>(i)]);
    return false;
  }
  if (tree_ == nullptr || exponent_bound(largest) > exponent_) {
    exponent_ = std::max(exponent_, exponent_bound(largest));
    plant();
  } else {
    for (std::int64_t i = 0; i < count; ++i) {
      tree_->set(static_cast<std::uint64_t>(indices[i]),
                 weights_[static_cast<std::size_t>(indices[i])]);
    }
  }
  replant_if_faint();  // what was the largest may be gone
  table_.reset();
  return true;
}

// At a scale that is too large the weights have few bits, or none, and then nothing can be drawn.
void Weights::replant_if_faint() {
  if (tree_->total() >> kKeptBits != 0) return;
  exponent_ = exponent_bound(*std::max_element(weights_.begin(), weights_.end()));
  plant();
}

}  // namespace subgrad
