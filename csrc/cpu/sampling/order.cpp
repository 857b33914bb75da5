#include "cpu/sampling/order.h"

#include <algorithm>

#include "cpu/kernel_table.h"
#include "cpu/support/regions.h"

namespace subgrad {
namespace {

// Positions handed to a thread at a time (some 50 us).
constexpr std::int64_t kSlotPositions = 16 << 10;

// As long as a position takes, so many bytes do.
constexpr std::int64_t kPositionBytes = 32;

template <class Body>
void share(std::int64_t count, const Body& body) {
  const std::int64_t slots = (count + kSlotPositions - 1) / kSlotPositions;
  const int threads = static_cast<int>(std::min<std::int64_t>(slots, num_threads()));
  adaptive_for(threads, slots, count * kPositionBytes, [&](std::int64_t slot) {
    const std::int64_t begin = slot * kSlotPositions;
    body(begin, std::min(kSlotPositions, count - begin));
  });
}

std::uint64_t* as_unsigned(std::int64_t* p) { return reinterpret_cast<std::uint64_t*>(p); }

}  // namespace

void Order::indices_serial(std::uint64_t* values, std::int64_t count) const {
  if (order_.reversed) {
    for (std::int64_t i = 0; i < count; ++i) values[i] = turned(order_, values[i]);
  }
  const PermuteKernel permute_many = kernels().permute;
  if (order_.block_size == 0) {
    permute_many(order_.rows, values, count);
    return;
  }
  Permutation inside;
  for (std::int64_t i = 0; i < count;) {
    const OrderWindow w = window_at(order_, values[i]);
    std::int64_t end = i;
    for (; end < count && values[end] >= w.begin && values[end] < w.end; ++end) {
      values[end] -= w.begin;
    }
    set_inside(inside, order_, w);
    permute_many(inside, values + i, end - i);
    for (; i < end; ++i) values[i] = row_of(order_, w, values[i]);
  }
}

void Order::positions_serial(std::uint64_t* values, std::int64_t count) const {
  if (order_.block_size != 0) {
    Permutation inside;
    for (std::int64_t i = 0; i < count; ++i) values[i] = position_of(order_, values[i], inside);
    return;
  }
  kernels().unpermute(order_.rows, values, count);
  if (order_.reversed) {
    for (std::int64_t i = 0; i < count; ++i) values[i] = turned(order_, values[i]);
  }
}

void Order::indices(std::int64_t* values, std::int64_t count) const {
  share(count, [&](std::int64_t begin, std::int64_t size) {
    indices_serial(as_unsigned(values + begin), size);
  });
}

void Order::positions(std::int64_t* values, std::int64_t count) const {
  share(count, [&](std::int64_t begin, std::int64_t size) {
    positions_serial(as_unsigned(values + begin), size);
  });
}

void Order::range(std::int64_t start, std::int64_t step, std::int64_t count,
                  std::int64_t* out) const {
  share(count, [&](std::int64_t begin, std::int64_t size) {
    std::uint64_t* values = as_unsigned(out + begin);
    const std::uint64_t first =
        static_cast<std::uint64_t>(start) +
        static_cast<std::uint64_t>(begin) * static_cast<std::uint64_t>(step);
    for (std::int64_t i = 0; i < size; ++i) {
      values[i] = first + static_cast<std::uint64_t>(i) * static_cast<std::uint64_t>(step);
    }
    indices_serial(values, size);
  });
}

}  // namespace subgrad
