// A permutation of [0, n) as a function: position -> index and back, from a few hundred bytes.
//
// n >= 64: a Feistel network on the smallest power of two that holds n (both halves as wide as they
// can be, each round adds a keyed hash of one half to the other), walked until it lands below n
// (Black and Rogaway, "Ciphers with arbitrary finite domains", 2002). n < 64: networks on so few
// bits are visibly not random, so the permutation is drawn exactly, by Fisher and Yates, and kept
// as a table.
//
// Parity. Every round is an even permutation of its block, and so is the network. After the walk
// the order of n elements of a block of N is then even or odd with a bias of n(n-1) / N(N-1): one
// for n = N, and still a quarter if a block twice as large is walked down to n = N/2. So one more
// random bit decides whether positions 0 and 1 are exchanged first, which makes both parities
// equally likely at every n.
#pragma once

#include <cstdint>

#include "core/philox.h"

namespace subgrad {

inline constexpr int kPermuteRounds = 12;
inline constexpr std::uint64_t kPermuteTable = 64;  // smaller n are drawn exactly

struct Permutation {
  std::uint64_t n;
  int left_bits, right_bits;  // 0: by table
  std::uint64_t exchange;     // 1: positions 0 and 1 are exchanged first
  std::uint32_t key[kPermuteRounds][2];
  std::uint8_t forward[kPermuteTable], backward[kPermuteTable];
};

inline namespace SGF_ISA {

// The order numbered `stream` of those with this key, put into `p`.
SGF_HD void set_permutation(Permutation& p, std::uint64_t n, std::uint64_t key,
                            std::uint64_t stream) {
  p.n = n;
  p.left_bits = p.right_bits = 0;
  p.exchange = 0;
  if (n < kPermuteTable) {
    const std::uint64_t table_key = philox_words(key, stream, n).first;
    for (std::uint64_t i = 0; i < n; ++i) {
      const std::uint64_t j = bounded_draw(table_key, i, i + 1);
      p.forward[i] = p.forward[j];  // j == i: overwritten by the next line
      p.forward[j] = static_cast<std::uint8_t>(i);
    }
    for (std::uint64_t i = 0; i < n; ++i) p.backward[p.forward[i]] = static_cast<std::uint8_t>(i);
    return;
  }
  const int bits = ceil_log2(n);
  p.left_bits = bits / 2;
  p.right_bits = bits - p.left_bits;
  const Words root = philox_words(key, stream, n);
  p.exchange = root.second & 1;
  for (int round = 0; round < kPermuteRounds; round += 2) {
    const Words words = philox_words(root.first, static_cast<std::uint64_t>(round), 0);
    p.key[round][0] = static_cast<std::uint32_t>(words.first);
    p.key[round][1] = static_cast<std::uint32_t>(words.first >> 32);
    p.key[round + 1][0] = static_cast<std::uint32_t>(words.second);
    p.key[round + 1][1] = static_cast<std::uint32_t>(words.second >> 32);
  }
}
SGF_HD Permutation make_permutation(std::uint64_t n, std::uint64_t key, std::uint64_t stream) {
  Permutation p{};
  set_permutation(p, n, key, stream);
  return p;
}

// The round function: two multiplications, each folded so that every bit of `half` reaches the low
// ones.
template <class V>
SGF_HD V permute_hash(V half, const std::uint32_t (&key)[2]) {
  V x = mul32(bit_xor(half, splat<V>(key[0])), splat<V>(0xCC9E2D51u));
  x = bit_xor(bit_xor(x, shift_right(x, 32)), splat<V>(key[1]));
  x = mul32(x, splat<V>(0x85EBCA6Bu));
  return bit_xor(x, shift_right(x, 32));
}

// One pass through the network, or back through it. The result may be n or more.
template <class V>
SGF_HD V permute_pass(const Permutation& p, V x) {
  const V left_mask = splat<V>((std::uint64_t{1} << p.left_bits) - 1);
  const V right_mask = splat<V>((std::uint64_t{1} << p.right_bits) - 1);
  V left = shift_right(x, p.right_bits);
  V right = bit_and(x, right_mask);
  for (int round = 0; round < kPermuteRounds; round += 2) {
    left = bit_xor(left, bit_and(permute_hash(right, p.key[round]), left_mask));
    right = bit_xor(right, bit_and(permute_hash(left, p.key[round + 1]), right_mask));
  }
  return bit_or(shift_left(left, p.right_bits), right);
}
template <class V>
SGF_HD V unpermute_pass(const Permutation& p, V x) {
  const V left_mask = splat<V>((std::uint64_t{1} << p.left_bits) - 1);
  const V right_mask = splat<V>((std::uint64_t{1} << p.right_bits) - 1);
  V left = shift_right(x, p.right_bits);
  V right = bit_and(x, right_mask);
  for (int round = kPermuteRounds - 2; round >= 0; round -= 2) {
    right = bit_xor(right, bit_and(permute_hash(left, p.key[round + 1]), right_mask));
    left = bit_xor(left, bit_and(permute_hash(right, p.key[round]), left_mask));
  }
  return bit_or(shift_left(left, p.right_bits), right);
}

SGF_HD std::uint64_t exchange_first(const Permutation& p, std::uint64_t x) {
  return x < 2 ? x ^ p.exchange : x;
}

// The index at a position of [0, n), and the position of an index.
SGF_HD std::uint64_t permute(const Permutation& p, std::uint64_t position) {
  if (p.right_bits == 0) return p.forward[position];
  std::uint64_t x = exchange_first(p, position);
  do x = permute_pass(p, x);
  while (x >= p.n);
  return x;
}
SGF_HD std::uint64_t unpermute(const Permutation& p, std::uint64_t index) {
  if (p.right_bits == 0) return p.backward[index];
  std::uint64_t x = index;
  do x = unpermute_pass(p, x);
  while (x >= p.n);
  return exchange_first(p, x);
}

}  // namespace SGF_ISA
}  // namespace subgrad
