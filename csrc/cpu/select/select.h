// Selection by magnitude over any number of arrays: the exact k-th magnitude, and the indices and
// values of what is kept.
#pragma once

#include <cstdint>
#include <vector>

#include "cpu/kernel_table.h"
#include "cpu/support/large_array.h"
#include "cpu/support/spans.h"

namespace subgrad {

// What is kept, elements counted through all spans from 0: of the first `boundary` elements those
// whose key is at least `key`, behind them those whose key is at least `behind`, the next key. So
// ties go to the lowest (span, index) and no kernel has to know of ties: work that contains the
// boundary is done in two parts.
struct Cut {
  std::uint64_t key, behind;
  std::int64_t boundary;
};

// What is kept of a key: all before the boundary.
Cut cut_at(std::uint64_t key, std::int64_t boundary, bool f64);

// The cut that keeps exactly the k largest magnitudes of all spans together, every NaN counting as
// largest; `key` is the k-th. 0 <= k <= the number of elements.
Cut kth_magnitude(const std::vector<Span>& spans, std::int64_t k);

// The cut that keeps every |x| >= threshold and every NaN. 0 <= threshold.
Cut threshold_cut(const std::vector<Span>& spans, double threshold);

// The magnitude that a key stands for; infinity for that of a cut that keeps nothing.
double magnitude_of(std::uint64_t key, const std::vector<Span>& spans);

// Sums of squares of what a cut keeps and of the rest; the same bits on every instruction set and
// number of threads.
Energy energy(const std::vector<Span>& spans, const Cut& cut);

// One span's share of a selection, ascending by index: indices are counted within the span, values
// have its type.
struct Selected {
  std::int64_t count = 0;
  LargeArray<char> indices, values;
};
struct Selection {
  Cut cut;
  std::vector<Selected> spans;
};

enum class IndexType : std::uint8_t { i64, i32 };

Selection select_top(const std::vector<Span>& spans, std::int64_t k, IndexType type);
Selection select_above(const std::vector<Span>& spans, double threshold, IndexType type);

}  // namespace subgrad
