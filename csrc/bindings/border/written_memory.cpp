#include "bindings/border/written_memory.h"

#include <algorithm>

namespace subgrad {

void require_writable(const ArrayView& view, const Extents& extents, const Where& where) {
  if (!view.writable) throw py::value_error(where.text() + ": is read-only");
  if (extents.may_overlap_itself()) {
    throw Overlap(where.text() + ": its elements share memory (an expanded or broadcast view)");
  }
}

void WrittenMemory::add(const Extents& array, const Where& where) {
  if (array.size > 0) written_.push_back({array.byte_range(), &array, &where});
}

void WrittenMemory::seal() {
  std::sort(written_.begin(), written_.end(),
            [](const Written& a, const Written& b) { return a.range.begin < b.range.begin; });
  std::vector<Range> ranges;
  for (const Written& w : written_) ranges.push_back(w.range);
  all_ = SortedRanges(ranges);
  for (std::size_t i = 0; i < written_.size(); ++i) {
    const Written& a = written_[i];
    for (std::size_t j = i + 1; j < written_.size() && written_[j].range.begin < a.range.end; ++j) {
      const Written& b = written_[j];
      if (a.array->shares_memory(*b.array)) {
        throw Overlap(b.where->text() + ": shares memory with " + a.where->text());
      }
    }
  }
}

void WrittenMemory::reseal() {
  for (Written& w : written_) w.range = w.array->byte_range();
  small_.reset();
  large_ = SortedRanges();
  seal();
}

void WrittenMemory::index() {
  std::vector<Range> small, large;
  for (const auto& [range, array, where] : written_) {
    (range.end - range.begin <= kSmall ? small : large).push_back(range);
  }
  small_.emplace(small);
  large_ = SortedRanges(large);
}

void WrittenMemory::refuse(const ArrayView& view, const Where& where, const Extents& own) const {
  const Range r = byte_range(view);
  for (std::size_t k = all_.before(r.end); k > 0 && all_.reach(k) > r.begin; --k) {
    const Written& w = written_[k - 1];
    if (w.range.end <= r.begin) continue;
    const Extents read(view);
    if (w.array == &own && read.same_memory(own)) continue;
    if (read.shares_memory(*w.array)) {
      throw Overlap(where.text() + ": shares memory with " + w.where->text());
    }
  }
}

}  // namespace subgrad
