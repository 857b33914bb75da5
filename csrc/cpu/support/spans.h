// Arrays as one long row of elements, and its division into blocks.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

#include "core/work.h"
#include "cpu/support/regions.h"

namespace subgrad {

inline bool is_f64(const std::vector<Span>& spans) {
  return !spans.empty() && spans.front().dtype == DType::f64;
}

inline std::int64_t elements(const std::vector<Span>& spans) {
  std::int64_t n = 0;
  for (const Span& s : spans) n += s.n;
  return n;
}

// The unit of work: what is found in a block fits on a thread's stack and in its first-level cache.
constexpr std::int64_t kBlockElements = 4 << 10;

struct Block {
  const void* data;
  DType dtype;
  std::int64_t n;
  std::size_t span;
  std::int64_t begin;     // of its first element, in the span
  std::int64_t position;  // and counted through all spans

  const char* at(std::int64_t i) const {
    return static_cast<const char*>(data) + i * static_cast<std::int64_t>(size_of(dtype));
  }
  // The element itself, of the type T of its dtype; it need not be aligned.
  template <class T>
  T element(std::int64_t i) const {
    T value;
    std::memcpy(&value, static_cast<const char*>(data) + i * std::int64_t{sizeof value},
                sizeof value);
    return value;
  }
};

inline std::vector<Block> blocks_of(const std::vector<Span>& spans) {
  std::vector<Block> blocks;
  std::int64_t position = 0;
  for (std::size_t i = 0; i < spans.size(); ++i) {
    const Span& s = spans[i];
    const auto item = static_cast<std::int64_t>(size_of(s.dtype));
    for (std::int64_t begin = 0; begin < s.n; begin += kBlockElements) {
      const void* data = static_cast<const char*>(s.data) + begin * item;
      const std::int64_t n = std::min(kBlockElements, s.n - begin);
      blocks.push_back({data, s.dtype, n, i, begin, position + begin});
    }
    position += s.n;
  }
  return blocks;
}

inline std::int64_t bytes_of(const std::vector<Span>& spans) {
  std::int64_t bytes = 0;
  for (const Span& s : spans) bytes += s.n * static_cast<std::int64_t>(size_of(s.dtype));
  return bytes;
}

// With fewer bytes a thread, a parallel region costs more than it saves. In the middle of other
// work the limit is higher: on a busy machine each region waits for the thread that is kept waiting
// most.
constexpr std::int64_t kBytesPerThread = 128 << 10, kInnerBytesPerThread = 1 << 20;

inline int threads_for(std::int64_t bytes, std::int64_t per_thread = kBytesPerThread) {
  return static_cast<int>(std::clamp<std::int64_t>(bytes / per_thread, 1, num_threads()));
}

// body(i, blocks[i]) for every block, on so many threads; a few blocks are handed out at a time.
template <class T, class Body>
void each_block(int threads, std::vector<T>& blocks, const Body& body) {
  const std::size_t share = blocks.size() / (static_cast<std::size_t>(threads) * 16);
  const std::size_t per_slot = std::clamp<std::size_t>(share, 1, 16);
  const std::size_t slots = (blocks.size() + per_slot - 1) / per_slot;
  const auto work = static_cast<std::int64_t>(blocks.size()) * kBlockElements * 4;
  adaptive_for(threads, static_cast<std::int64_t>(slots), work, [&](std::int64_t slot) {
    const std::size_t first = static_cast<std::size_t>(slot) * per_slot;
    const std::size_t end = std::min(blocks.size(), first + per_slot);
    for (std::size_t i = first; i < end; ++i) body(i, blocks[i]);
  });
}

// Calls body(T{}) with T the element type.
template <class Body>
void with_element(DType t, const Body& body) {
  switch (t) {
    case DType::f32:
      return body(float{});
    case DType::f64:
      return body(double{});
    case DType::bf16:
      return body(bf16{});
    case DType::f16:
      return body(f16{});
  }
}

}  // namespace subgrad
