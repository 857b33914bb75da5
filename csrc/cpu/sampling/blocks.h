// Loops over many weights: in blocks that do not depend on how many threads share them.
#pragma once

#include <algorithm>
#include <cstdint>

#include "cpu/support/regions.h"

namespace subgrad {

constexpr std::int64_t kBlock = 32 << 10;  // items handed to a thread at a time
constexpr std::int64_t kItemBytes = 16;    // as long as an item takes, so many bytes do

inline std::int64_t blocks_of(std::int64_t n) { return (n + kBlock - 1) / kBlock; }

// body(block, begin, end) for every block of [0, n).
template <class Body>
void each_block(std::int64_t n, const Body& body) {
  const std::int64_t blocks = blocks_of(n);
  const int threads = static_cast<int>(std::min<std::int64_t>(blocks, num_threads()));
  adaptive_for(threads, blocks, n * kItemBytes, [&](std::int64_t block) {
    body(block, block * kBlock, std::min(n, (block + 1) * kBlock));
  });
}

}  // namespace subgrad
