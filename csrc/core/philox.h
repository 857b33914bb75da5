// Philox4x32-10, the counter-based generator of Salmon et al., "Parallel random numbers: as easy as
// 1, 2, 3" (SC 2011): 128 random bits from a 128-bit counter and a 64-bit key, with no state.
#pragma once

#include <cstdint>

#include "core/bits.h"
#include "core/macros.h"

namespace subgrad {
inline namespace SGF_ISA {

// Four 32-bit words, each in the lower half of a 64-bit lane.
template <class V>
struct PhiloxBlock {
  V x0, x1, x2, x3;
};

inline constexpr int kPhiloxRounds = 10;

// One block per lane. The upper halves of the counter's lanes must be zero, those of the result
// are.
template <class V>
SGF_HD PhiloxBlock<V> philox(PhiloxBlock<V> c, std::uint64_t key) {
  const V multiplier0 = splat<V>(0xD2511F53u);
  const V multiplier1 = splat<V>(0xCD9E8D57u);
  const V low = splat<V>(0xffffffffu);
  std::uint32_t key0 = static_cast<std::uint32_t>(key);
  std::uint32_t key1 = static_cast<std::uint32_t>(key >> 32);
  for (int round = 0; round < kPhiloxRounds; ++round) {
    const V product0 = mul32(multiplier0, c.x0);
    const V product1 = mul32(multiplier1, c.x2);
    // The low words keep what is above them: mul32 and the final mask do not see it.
    c.x0 = bit_xor(bit_xor(shift_right(product1, 32), c.x1), splat<V>(key0));
    c.x1 = product1;
    c.x2 = bit_xor(bit_xor(shift_right(product0, 32), c.x3), splat<V>(key1));
    c.x3 = product0;
    key0 += 0x9E3779B9u;
    key1 += 0xBB67AE85u;
  }
  return {bit_and(c.x0, low), bit_and(c.x1, low), bit_and(c.x2, low), bit_and(c.x3, low)};
}

// A block as its two 64-bit words.
struct Words {
  std::uint64_t first, second;
};

// The block at a 128-bit counter, given as two halves.
SGF_HD Words philox_words(std::uint64_t key, std::uint64_t low, std::uint64_t high) {
  const PhiloxBlock<std::uint64_t> x =
      philox<std::uint64_t>({low & 0xffffffffu, low >> 32, high & 0xffffffffu, high >> 32}, key);
  return {x.x0 | x.x1 << 32, x.x2 | x.x3 << 32};
}

// What a random number is for. Every purpose draws from a key of its own.
enum class Purpose : std::uint32_t {
  permutation = 1,
  uniform = 2,
  weighted = 3,
  distinct = 4,
  strata = 5,
  group = 6,
};

// The key of one epoch. A hash, so that seed s in epoch 1 has nothing to do with seed s + 1 in
// epoch 0.
SGF_HD std::uint64_t epoch_key(std::uint64_t seed, std::uint64_t epoch, Purpose purpose,
                               std::uint32_t detail = 0) {
  const std::uint64_t high = static_cast<std::uint64_t>(purpose) | std::uint64_t{detail} << 32;
  return philox_words(seed, epoch, high).first;
}

// A counter's upper half: which attempt at a draw, and which of several independent streams.
SGF_HD std::uint64_t counter_high(std::uint32_t attempt, std::uint32_t stream) {
  return std::uint64_t{attempt} | std::uint64_t{stream} << 32;
}

// Whether `word` gives a value of [0, n) without bias; the value. Lemire, "Fast random integer
// generation in an interval" (2019): the upper half of word * n, after refusing the 2^64 mod n
// words that would make some values likelier.
SGF_HD bool bounded(std::uint64_t word, std::uint64_t n, std::uint64_t& value) {
  const Product product = mul_wide(word, n);
  value = product.high;
  return product.low >= n || product.low >= (std::uint64_t{0} - n) % n;
}

// Draw number `draw` from [0, n): two draws share a block, a refused word is drawn again from the
// counter of the next attempt.
SGF_HD std::uint64_t bounded_draw(std::uint64_t key, std::uint64_t draw, std::uint64_t n,
                                  std::uint32_t stream = 0, std::uint32_t attempt = 0) {
  for (;; ++attempt) {
    const Words words = philox_words(key, draw >> 1, counter_high(attempt, stream));
    std::uint64_t value;
    if (bounded((draw & 1) != 0 ? words.second : words.first, n, value)) return value;
  }
}

}  // namespace SGF_ISA
}  // namespace subgrad
