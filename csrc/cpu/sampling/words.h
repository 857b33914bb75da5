// Random words by number: the shared loop over the generator's kernel.
#pragma once

#include <algorithm>
#include <cstdint>

#include "core/philox.h"
#include "cpu/kernel_table.h"
#include "cpu/support/regions.h"

namespace subgrad {

// Draws made at a time (they stay in the first-level cache), and handed to a thread at a time.
constexpr std::int64_t kWordBatch = 512;
constexpr std::int64_t kWordSlot = 16 << 10;

// As long as a draw takes, so many bytes do.
constexpr std::int64_t kWordBytes = 16;

// body(i, words, size) for every batch: words[j] is the word of draw start + i + j. Runs on as many
// threads as pay.
template <class Body>
void each_batch(std::uint64_t key, std::uint32_t stream, std::uint64_t start, std::int64_t count,
                const Body& body) {
  const std::int64_t slots = (count + kWordSlot - 1) / kWordSlot;
  const int threads = static_cast<int>(std::min<std::int64_t>(slots, num_threads()));
  const PhiloxKernel philox_many = kernels().philox;
  adaptive_for(threads, slots, count * kWordBytes, [&](std::int64_t slot) {
    std::uint64_t words[kWordBatch + 2];
    const std::int64_t end = std::min(count, (slot + 1) * kWordSlot);
    for (std::int64_t i = slot * kWordSlot; i < end; i += kWordBatch) {
      const std::int64_t size = std::min(kWordBatch, end - i);
      const std::uint64_t first = start + static_cast<std::uint64_t>(i);
      philox_many(key, first >> 1, counter_high(0, stream), size / 2 + 1, words);
      body(i, words + (first & 1), size);
    }
  });
}

// Random numbers one after the other, for those who cannot tell how many they need.
class WordStream {
 public:
  explicit WordStream(std::uint64_t key) : key_(key) {}

  // A number of [0, n).
  std::uint64_t below(std::uint64_t n) {
    std::uint64_t value;
    while (!bounded(next(), n, value)) continue;
    return value;
  }

 private:
  std::uint64_t next() {
    if (at_ == kWordBatch) {
      kernels().philox(key_, block_, 0, kWordBatch / 2, words_);
      block_ += kWordBatch / 2;
      at_ = 0;
    }
    return words_[at_++];
  }

  std::uint64_t key_, block_ = 0;
  std::int64_t at_ = kWordBatch;
  std::uint64_t words_[kWordBatch];
};

}  // namespace subgrad
