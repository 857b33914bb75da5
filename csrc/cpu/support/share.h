// Work over a list of tensors, shared among threads by the bytes it moves.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "cpu/support/regions.h"

namespace subgrad {

// One tensor's part: so many units (elements, rows ...) that move so many bytes each. A split
// inside it falls on a multiple of `grain` units.
struct Load {
  std::int64_t units, unit_bytes;
  std::int64_t grain = 1;

  // What a tensor costs beside its bytes, in bytes: a call, its prologue and its tail.
  static constexpr std::int64_t kFixedBytes = 256;
  std::int64_t bytes() const { return units * unit_bytes + kFixedBytes; }
};

// The grain of elements: full registers, whole cache lines.
inline constexpr std::int64_t kSplitElements = 64;

// Calls body(i, begin, end) so that every unit of every tensor i < count with load_of(i) is met
// once: in one parallel region, or in none where the work is too small to share or has been quicker
// alone (regions.h). The body must not
// throw, and results must not depend on how the work is split.
template <class LoadOf, class Body>
void share_work(std::size_t count, const LoadOf& load_of, const Body& body) {
  // Below this many bytes per thread a parallel region costs more than it saves (about 3 us to wake
  // the pool, about 10 GB/s a core from cold caches).
  constexpr std::int64_t bytes_per_thread = 128 << 10;

  // Work is handed out in more slots than threads, so that a thread whose core is taken away does
  // not hold up the others; slots no smaller than this keep the hand-out itself cheap.
  constexpr std::int64_t slots_per_thread = 4, min_slot_bytes = 64 << 10;

  std::int64_t total = 0;
  for (std::size_t i = 0; i < count; ++i) total += load_of(i).bytes();

  static RegionHistory history;
  const Region region(
      history,
      static_cast<int>(std::clamp<std::int64_t>(total / bytes_per_thread, 1, num_threads())),
      total);
  const int threads = region.threads();
  if (threads == 1) {
    for (std::size_t i = 0; i < count; ++i) {
      const std::int64_t units = load_of(i).units;
      if (units > 0) body(i, std::int64_t{0}, units);
    }
    return;
  }

  const std::int64_t slots = std::clamp<std::int64_t>(total / min_slot_bytes, threads,
                                                      std::int64_t{threads} * slots_per_thread);
  const auto slot_start = [=](std::int64_t slot) { return total / slots * slot; };

  // The tensor each slot begins in, and the position where that tensor begins.
  struct Start {
    std::size_t tensor;
    std::int64_t position;
  };
  std::vector<Start> starts(static_cast<std::size_t>(slots));
  std::int64_t position = 0;
  std::size_t tensor = 0;
  for (std::int64_t slot = 0; slot < slots; ++slot) {
    while (position + load_of(tensor).bytes() <= slot_start(slot)) {
      position += load_of(tensor++).bytes();
    }
    starts[static_cast<std::size_t>(slot)] = {tensor, position};
  }

  // Where in a tensor a position of the work, counted in bytes from the tensor's start, falls.
  const auto split = [](const Load& load, std::int64_t at) {
    return std::min(at / load.unit_bytes / load.grain * load.grain, load.units);
  };
  parallel_for(threads, slots, [&](std::int64_t slot) {
    const std::int64_t begin = slot_start(slot);
    const std::int64_t end = slot + 1 == slots ? total : slot_start(slot + 1);
    auto [i, at] = starts[static_cast<std::size_t>(slot)];
    for (; i < count && at < end; ++i) {
      const Load load = load_of(i);
      const std::int64_t next = at + load.bytes();
      const std::int64_t from = begin > at ? split(load, begin - at) : 0;
      const std::int64_t to = end < next ? split(load, end - at) : load.units;
      if (from < to) body(i, from, to);
      at = next;
    }
  });
}

}  // namespace subgrad
