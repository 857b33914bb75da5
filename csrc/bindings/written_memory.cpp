#include "bindings/written_memory.h"

#include <algorithm>

namespace subgrad {

void require_writable(const ArrayView& view, const Extents& extents, const Where& where) {
  if (!view.writable) throw py::value_error(where.text() + ": is read-only");
  if (extents.may_overlap_itself()) {
    throw Overlap(where.text() + ": its elements share memory (an expanded or broadcast view)");
  }
}

void WrittenMemory::clear() {
  written_.clear();
  begins_.clear();
  reaches_.clear();
  gap_ = {};
}

void WrittenMemory::add(const Extents& array, const Where& where) {
  if (array.size == 0) return;
  const Range r = array.byte_range();
  written_.push_back({r.begin, r.end, &array, &where});
}

void WrittenMemory::seal() {
  std::sort(written_.begin(), written_.end(),
            [](const Written& a, const Written& b) { return a.begin < b.begin; });
  for (const Written& w : written_) {
    begins_.push_back(w.begin);
    reaches_.push_back(reaches_.empty() ? w.end : std::max(reaches_.back(), w.end));
  }
  for (std::size_t i = 0; i < written_.size(); ++i) {
    const Written& a = written_[i];
    for (std::size_t j = i + 1; j < written_.size() && written_[j].begin < a.end; ++j) {
      const Written& b = written_[j];
      if (a.array->shares_memory(*b.array)) {
        throw Overlap(b.where->text() + ": shares memory with " + a.where->text());
      }
    }
  }
}

bool WrittenMemory::find_gap(Range range) {
  constexpr std::uintptr_t kLast = ~std::uintptr_t{0};
  const auto next = std::lower_bound(begins_.begin(), begins_.end(), range.end);
  const auto k = static_cast<std::size_t>(next - begins_.begin());
  const char* begin = k > 0 ? reaches_[k - 1] : nullptr;
  if (begin > range.begin) return false;
  gap_ = {begin, k < begins_.size() ? begins_[k] : reinterpret_cast<const char*>(kLast)};
  return true;
}

void WrittenMemory::refuse(const ArrayView& view, const Where& where, const Extents& own) const {
  const Range r = byte_range(view);
  auto k = static_cast<std::size_t>(std::lower_bound(begins_.begin(), begins_.end(), r.end) -
                                    begins_.begin());
  while (k-- > 0 && reaches_[k] > r.begin) {
    const Written& w = written_[k];
    if (w.end <= r.begin) continue;
    const Extents read(view);
    if (w.array == &own && read.same_memory(own)) continue;
    if (read.shares_memory(*w.array)) {
      throw Overlap(where.text() + ": shares memory with " + w.where->text());
    }
  }
}

}  // namespace subgrad
