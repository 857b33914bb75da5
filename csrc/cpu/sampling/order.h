// The order of one epoch (samplers/order.h), many positions at a time.
#pragma once

#include <cstdint>

#include "samplers/order.h"

namespace subgrad {

class Order {
 public:
  explicit Order(const OrderParams& params) : order_(make_order(params)) {}

  std::uint64_t n() const { return order_.n; }
  const RowOrder& rows() const { return order_; }

  // Positions to indices and back, in place, by as many threads as pay. All values must be in [0,
  // n).
  void indices(std::int64_t* values, std::int64_t count) const;
  void positions(std::int64_t* values, std::int64_t count) const;

  // The indices at positions start, start + step, ...
  void range(std::int64_t start, std::int64_t step, std::int64_t count, std::int64_t* out) const;

 private:
  void indices_serial(std::uint64_t* values, std::int64_t count) const;
  void positions_serial(std::uint64_t* values, std::int64_t count) const;

  RowOrder order_;
};

}  // namespace subgrad
