// The order of one epoch: a permutation of [0, n), plain, reversed, or block by block.
#pragma once

#include <cstdint>

#include "samplers/permute.h"

namespace subgrad {

struct OrderParams {
  std::uint64_t n = 1;  // at most 2^63
  std::uint64_t seed = 0;
  std::uint64_t epoch = 0;
  bool reverse_pairs = false;    // epoch 2k + 1 is epoch 2k reversed
  std::uint64_t block_size = 0;  // rows that lie together on disk; 0: no blocks
  std::uint64_t window = 1;      // blocks that are shuffled together
};

// With blocks: the blocks are permuted and cut into windows of `window` blocks; the rows of a
// window are permuted. So reading in order touches one window's blocks at a time, all others never.
class Order {
 public:
  explicit Order(const OrderParams& params);

  std::uint64_t n() const { return n_; }

  // Positions to indices and back, in place, by as many threads as pay. All values must be in [0,
  // n).
  void indices(std::int64_t* values, std::int64_t count) const;
  void positions(std::int64_t* values, std::int64_t count) const;

  // The indices at positions start, start + step, ...
  void range(std::int64_t start, std::int64_t step, std::int64_t count, std::int64_t* out) const;

 private:
  struct Window;  // a window, cut to what the order has left for it
  void indices_serial(std::uint64_t* values, std::int64_t count) const;
  void positions_serial(std::uint64_t* values, std::int64_t count) const;
  Window window_at(std::uint64_t position) const;
  Window window_number(std::uint64_t number) const;

  std::uint64_t n_;
  bool reversed_;
  Permutation rows_;  // of all rows, or of the blocks
  std::uint64_t block_size_, window_, blocks_ = 0, key_ = 0;
  std::uint64_t short_slot_ = 0;  // where in the order of blocks the last, shorter block comes
  std::uint64_t missing_ = 0;     // rows by which it is shorter
};

}  // namespace subgrad
