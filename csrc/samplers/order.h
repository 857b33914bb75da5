// The order of one epoch: a permutation of [0, n), plain, reversed, or block by block.
//
// With blocks: the blocks are permuted and cut into windows of `window` blocks; the rows of a
// window are permuted. So reading in order touches one window's blocks at a time, all others never.
#pragma once

#include <cstdint>

#include "core/philox.h"
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

struct RowOrder {
  std::uint64_t n;
  bool reversed;
  Permutation rows;  // of all rows, or of the blocks
  std::uint64_t block_size, window, blocks, key;
  std::uint64_t short_slot;  // where in the order of blocks the last, shorter block comes
  std::uint64_t missing;     // rows by which it is shorter
};

// A window, cut to what the order has left for it.
struct OrderWindow {
  std::uint64_t number, begin, end;  // its positions
  std::uint64_t first_slot, slots;   // its blocks, in the order of blocks
};

// The detail that tells the key of the rows inside the windows from that of the blocks.
inline constexpr std::uint32_t kInsideWindows = 1;

inline namespace SGF_ISA {

// A permutation without any of that.
SGF_HD RowOrder plain_order(std::uint64_t n, std::uint64_t key, std::uint64_t stream) {
  RowOrder o{};
  o.n = n;
  o.rows = make_permutation(n, key, stream);
  return o;
}

SGF_HD RowOrder make_order(const OrderParams& params) {
  const std::uint64_t epoch = params.reverse_pairs ? params.epoch >> 1 : params.epoch;
  const std::uint64_t key = epoch_key(params.seed, epoch, Purpose::permutation);
  const bool in_blocks = params.block_size != 0;
  const std::uint64_t blocks = in_blocks ? (params.n - 1) / params.block_size + 1 : 0;
  RowOrder o = plain_order(in_blocks ? blocks : params.n, key, 0);
  o.n = params.n;
  o.reversed = params.reverse_pairs && (params.epoch & 1) != 0;
  if (!in_blocks) return o;
  o.block_size = params.block_size;
  o.blocks = blocks;
  o.window = params.window < blocks ? params.window : blocks;
  o.key = epoch_key(params.seed, epoch, Purpose::permutation, kInsideWindows);
  o.short_slot = unpermute(o.rows, blocks - 1);
  o.missing = blocks * o.block_size - o.n;
  return o;
}

SGF_HD std::uint64_t turned(const RowOrder& o, std::uint64_t position) {
  return o.reversed ? o.n - 1 - position : position;
}

SGF_HD OrderWindow window_number(const RowOrder& o, std::uint64_t number) {
  OrderWindow w{};
  w.number = number;
  w.first_slot = number * o.window;
  const std::uint64_t left = o.blocks - w.first_slot;
  w.slots = o.window < left ? o.window : left;
  const std::uint64_t end_slot = w.first_slot + w.slots;
  w.begin = w.first_slot * o.block_size - (o.short_slot < w.first_slot ? o.missing : 0);
  w.end = end_slot * o.block_size - (o.short_slot < end_slot ? o.missing : 0);
  return w;
}

// The window that a position lies in.
SGF_HD OrderWindow window_at(const RowOrder& o, std::uint64_t position) {
  const std::uint64_t rows = o.window * o.block_size;
  const OrderWindow shorter = window_number(o, o.short_slot / o.window);
  return window_number(o, position < shorter.end ? position / rows : (position + o.missing) / rows);
}

// Puts the permutation of a window's rows into `inside`.
SGF_HD void set_inside(Permutation& inside, const RowOrder& o, const OrderWindow& w) {
  set_permutation(inside, w.end - w.begin, o.key, w.number);
}

// The short block counts as the last of its window, so that all others start at multiples.
SGF_HD bool has_short_block(const RowOrder& o, const OrderWindow& w) {
  return o.short_slot >= w.first_slot && o.short_slot < w.first_slot + w.slots;
}

// The row that a window's permutation makes number `inside` of the window, and back.
SGF_HD std::uint64_t row_of(const RowOrder& o, const OrderWindow& w, std::uint64_t inside) {
  const std::uint64_t place = inside / o.block_size;
  std::uint64_t slot = w.first_slot + place;
  if (has_short_block(o, w)) {
    if (place == w.slots - 1) {
      slot = o.short_slot;
    } else if (slot >= o.short_slot) {
      ++slot;
    }
  }
  return permute(o.rows, slot) * o.block_size + (inside - place * o.block_size);
}
SGF_HD std::uint64_t number_of(const RowOrder& o, const OrderWindow& w, std::uint64_t slot,
                               std::uint64_t row_of_block) {
  std::uint64_t place = slot - w.first_slot;
  if (has_short_block(o, w)) {
    if (slot == o.short_slot) {
      place = w.slots - 1;
    } else if (slot > o.short_slot) {
      --place;
    }
  }
  return place * o.block_size + row_of_block;
}

// The index at a position of [0, n), and the position of an index. `inside` is room to work in.
SGF_HD std::uint64_t index_at(const RowOrder& o, std::uint64_t position, Permutation& inside) {
  position = turned(o, position);
  if (o.block_size == 0) return permute(o.rows, position);
  const OrderWindow w = window_at(o, position);
  set_inside(inside, o, w);
  return row_of(o, w, permute(inside, position - w.begin));
}
SGF_HD std::uint64_t position_of(const RowOrder& o, std::uint64_t index, Permutation& inside) {
  if (o.block_size == 0) return turned(o, unpermute(o.rows, index));
  const std::uint64_t block = index / o.block_size;
  const std::uint64_t slot = unpermute(o.rows, block);
  const OrderWindow w = window_number(o, slot / o.window);
  set_inside(inside, o, w);
  const std::uint64_t number = number_of(o, w, slot, index - block * o.block_size);
  return turned(o, w.begin + unpermute(inside, number));
}

}  // namespace SGF_ISA
}  // namespace subgrad
