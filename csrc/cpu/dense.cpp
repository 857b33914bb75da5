#include "cpu/dense.h"

#include <algorithm>

#include "cpu/parallel.h"

namespace subgrad {
namespace {

// What a tensor costs beside its bytes, in bytes: a call, its prologue and its tail.
constexpr std::int64_t kSegmentBytes = 256;

// Below this many bytes per thread a parallel region costs more than it saves (about 3 us to wake
// the pool, about 10 GB/s a core from cold caches).
constexpr std::int64_t kBytesPerThread = 128 << 10;

// Work is handed out in more slots than threads, so that a thread whose core is taken away does not
// hold up the others; slots no smaller than this keep the hand-out itself cheap.
constexpr std::int64_t kSlotsPerThread = 4;
constexpr std::int64_t kMinSlotBytes = 64 << 10;

// Splits inside a tensor fall on multiples of this many elements: full registers, whole cache
// lines.
constexpr std::int64_t kSplitElements = 64;

std::int64_t element_bytes(const DenseSegment& s) {
  const DenseTypes& t = kDenseTypes[s.types_row];
  const std::size_t momentum = s.momentum != nullptr ? 2 * size_of(t.momentum) : 0;
  return static_cast<std::int64_t>(2 * size_of(t.param) + size_of(t.grad) + momentum);
}

std::int64_t segment_bytes(const DenseSegment& s) { return s.n * element_bytes(s) + kSegmentBytes; }

template <class T>
T* offset(T* p, std::int64_t bytes) {
  using Byte = std::conditional_t<std::is_const_v<T>, const char, char>;
  return p == nullptr ? nullptr : static_cast<T*>(static_cast<Byte*>(p) + bytes);
}

// The hyper-parameter rows with the kernels that they ask for.
struct Row {
  const SgdParams& params;
  const DenseKernel* kernels[2];  // by element types; [1]: the first step
};

std::vector<Row> rows_of(const KernelTable& table, const std::vector<SgdParams>& params) {
  std::vector<Row> rows;
  rows.reserve(params.size());
  for (const SgdParams& p : params) {
    rows.push_back({p, {table.dense[sgd_rule(p, false)], table.dense[sgd_rule(p, true)]}});
  }
  return rows;
}

void step_range(const std::vector<Row>& rows, const DenseSegment& s, std::int64_t begin,
                std::int64_t end) {
  const auto& [params, kernels] = rows[static_cast<std::size_t>(s.params_row)];
  const DenseKernel kernel = kernels[s.first ? 1 : 0][s.types_row];
  const DenseTypes& types = kDenseTypes[s.types_row];
  if (s.layout != nullptr) {
    step_strided(*s.layout, kernel, types, s.param, s.grad, s.momentum, params, begin, end);
    return;
  }
  const auto bytes = [begin](DType t) { return begin * static_cast<std::int64_t>(size_of(t)); };
  kernel(offset(s.param, bytes(types.param)), offset(s.grad, bytes(types.grad)),
         offset(s.momentum, bytes(types.momentum)), end - begin, params);
}

// Where in a segment a position of the work, counted in bytes from the segment's start, falls.
std::int64_t split_element(const DenseSegment& s, std::int64_t position) {
  const std::int64_t element = position / element_bytes(s) / kSplitElements * kSplitElements;
  return std::min(element, s.n);
}

}  // namespace

void run_dense(const std::vector<DenseSegment>& segments, const std::vector<SgdParams>& params) {
  const std::vector<Row> rows = rows_of(kernels(), params);
  std::int64_t total = 0;
  for (const DenseSegment& s : segments) total += segment_bytes(s);

  const int threads =
      static_cast<int>(std::clamp<std::int64_t>(total / kBytesPerThread, 1, num_threads()));
  if (threads == 1) {
    for (const DenseSegment& s : segments) step_range(rows, s, 0, s.n);
    return;
  }

  const std::int64_t slots = std::clamp<std::int64_t>(total / kMinSlotBytes, threads,
                                                      std::int64_t{threads} * kSlotsPerThread);
  const auto slot_start = [=](std::int64_t slot) { return total / slots * slot; };

  // The segment each slot begins in, and the position where that segment begins.
  struct Start {
    std::size_t segment;
    std::int64_t position;
  };
  std::vector<Start> starts(static_cast<std::size_t>(slots));
  std::int64_t position = 0;
  std::size_t segment = 0;
  for (std::int64_t slot = 0; slot < slots; ++slot) {
    while (position + segment_bytes(segments[segment]) <= slot_start(slot)) {
      position += segment_bytes(segments[segment++]);
    }
    starts[static_cast<std::size_t>(slot)] = {segment, position};
  }

  parallel_for(threads, slots, [&](std::int64_t slot) {
    const std::int64_t begin = slot_start(slot);
    const std::int64_t end = slot + 1 == slots ? total : slot_start(slot + 1);
    auto [i, at] = starts[static_cast<std::size_t>(slot)];
    for (; i < segments.size() && at < end; ++i) {
      const DenseSegment& s = segments[i];
      const std::int64_t next = at + segment_bytes(s);
      const std::int64_t from = begin > at ? split_element(s, begin - at) : 0;
      const std::int64_t to = end < next ? split_element(s, end - at) : s.n;
      if (from < to) step_range(rows, s, from, to);
      at = next;
    }
  });
}

}  // namespace subgrad
