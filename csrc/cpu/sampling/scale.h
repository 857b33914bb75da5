// Weights as integers: their sums depend neither on the order of summation nor on threads.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

namespace subgrad {

// What a first look at weights finds.
struct WeightCheck {
  std::int64_t bad = -1;  // the first that is negative, NaN or infinite
  double largest = 0.0;
};
WeightCheck check_weights(const double* weights, std::int64_t n);

// Non-negative finite weights as integers: w * 2^shift, cut. Integers and their sums count up to
// kFull, which stands for all that is more.
class WeightScale {
 public:
  static constexpr std::uint64_t kFull = std::uint64_t{1} << 62;

  explicit WeightScale(int shift)
      : first_(std::ldexp(1.0, shift / 2)), second_(std::ldexp(1.0, shift - shift / 2)) {}

  double scaled(double weight) const { return weight * first_ * second_; }
  std::uint64_t operator()(double weight) const {
    const double counted = std::min(scaled(weight), static_cast<double>(kFull));
    // By way of int64, for which processors have an instruction.
    return static_cast<std::uint64_t>(static_cast<std::int64_t>(counted));
  }
  std::uint64_t sum(const double* weights, std::int64_t n) const;

 private:
  double first_, second_;  // 2^shift alone may be no double
};

// The scale at which n weights of 2^exponent add up to kFull, or to less if n is no power of two.
WeightScale weight_scale(std::int64_t n, int exponent);

// An exponent for weights, one of them positive, whose largest is given. At its scale they add up
// to less than kFull, and with n to more than 2^59: what is cut of one is as good as nothing beside
// their sum, however far the largest is from the mean.
int fitting_exponent(const double* weights, std::int64_t n, double largest);

}  // namespace subgrad
