#include "cpu/order.h"

#include <algorithm>

#include "core/philox.h"
#include "cpu/kernel_table.h"
#include "cpu/parallel.h"

namespace subgrad {
namespace {

// Positions handed to a thread at a time (some 50 us), and the detail that tells the key of the
// rows inside the windows from that of the blocks.
constexpr std::int64_t kSlotPositions = 16 << 10;
constexpr std::uint32_t kInsideWindows = 1;

template <class Body>
void share(std::int64_t count, const Body& body) {
  const std::int64_t slots = (count + kSlotPositions - 1) / kSlotPositions;
  const int threads = static_cast<int>(std::min<std::int64_t>(slots, num_threads()));
  parallel_for(threads, slots, [&](std::int64_t slot) {
    const std::int64_t begin = slot * kSlotPositions;
    body(begin, std::min(kSlotPositions, count - begin));
  });
}

std::uint64_t* as_unsigned(std::int64_t* p) { return reinterpret_cast<std::uint64_t*>(p); }

}  // namespace

struct Order::Window {
  std::uint64_t number, begin, end;  // its positions
  std::uint64_t first_slot, slots;   // its blocks, in the order of blocks
};

Order::Order(const OrderParams& params)
    : n_(params.n),
      reversed_(params.reverse_pairs && (params.epoch & 1) != 0),
      block_size_(params.block_size),
      window_(params.window) {
  const std::uint64_t epoch = params.reverse_pairs ? params.epoch >> 1 : params.epoch;
  const std::uint64_t key = epoch_key(params.seed, epoch, Purpose::permutation);
  if (block_size_ == 0) {
    rows_ = make_permutation(n_, key, 0);
    return;
  }
  blocks_ = (n_ - 1) / block_size_ + 1;
  window_ = std::min(window_, blocks_);
  missing_ = blocks_ * block_size_ - n_;
  rows_ = make_permutation(blocks_, key, 0);
  short_slot_ = unpermute(rows_, blocks_ - 1);
  key_ = epoch_key(params.seed, epoch, Purpose::permutation, kInsideWindows);
}

Order::Window Order::window_number(std::uint64_t number) const {
  Window w;
  w.number = number;
  w.first_slot = number * window_;
  w.slots = std::min(window_, blocks_ - w.first_slot);
  const std::uint64_t end_slot = w.first_slot + w.slots;
  w.begin = w.first_slot * block_size_ - (short_slot_ < w.first_slot ? missing_ : 0);
  w.end = end_slot * block_size_ - (short_slot_ < end_slot ? missing_ : 0);
  return w;
}

Order::Window Order::window_at(std::uint64_t position) const {
  const std::uint64_t rows = window_ * block_size_;
  const Window shorter = window_number(short_slot_ / window_);
  return window_number(position < shorter.end ? position / rows : (position + missing_) / rows);
}

void Order::indices_serial(std::uint64_t* values, std::int64_t count) const {
  if (reversed_) {
    for (std::int64_t i = 0; i < count; ++i) values[i] = n_ - 1 - values[i];
  }
  const PermuteKernel permute_many = kernels().permute;
  if (block_size_ == 0) {
    permute_many(rows_, values, count);
    return;
  }
  for (std::int64_t i = 0; i < count;) {
    const Window w = window_at(values[i]);
    std::int64_t end = i;
    for (; end < count && values[end] >= w.begin && values[end] < w.end; ++end) {
      values[end] -= w.begin;
    }
    permute_many(make_permutation(w.end - w.begin, key_, w.number), values + i, end - i);
    for (; i < end; ++i) {
      // The short block counts as the last of its window, so that all others start at multiples.
      const std::uint64_t place = values[i] / block_size_;
      const std::uint64_t row = values[i] - place * block_size_;
      std::uint64_t slot = w.first_slot + place;
      if (short_slot_ >= w.first_slot && short_slot_ < w.first_slot + w.slots) {
        if (place == w.slots - 1) {
          slot = short_slot_;
        } else if (slot >= short_slot_) {
          ++slot;
        }
      }
      values[i] = permute(rows_, slot) * block_size_ + row;
    }
  }
}

void Order::positions_serial(std::uint64_t* values, std::int64_t count) const {
  if (block_size_ == 0) {
    kernels().unpermute(rows_, values, count);
  } else {
    for (std::int64_t i = 0; i < count; ++i) {
      const std::uint64_t block = values[i] / block_size_;
      const std::uint64_t row = values[i] - block * block_size_;
      const std::uint64_t slot = unpermute(rows_, block);
      const Window w = window_number(slot / window_);
      std::uint64_t place = slot - w.first_slot;
      if (short_slot_ >= w.first_slot && short_slot_ < w.first_slot + w.slots) {
        if (slot == short_slot_) {
          place = w.slots - 1;
        } else if (slot > short_slot_) {
          --place;
        }
      }
      const Permutation inside = make_permutation(w.end - w.begin, key_, w.number);
      values[i] = w.begin + unpermute(inside, place * block_size_ + row);
    }
  }
  if (reversed_) {
    for (std::int64_t i = 0; i < count; ++i) values[i] = n_ - 1 - values[i];
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
