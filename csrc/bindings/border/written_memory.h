// The memory that a step writes. Arrays that meet in it would make the result depend on the order
// of work, so they are refused.
#pragma once

#include <optional>
#include <stdexcept>
#include <vector>

#include "bindings/border/line_filter.h"
#include "bindings/border/sorted_ranges.h"

namespace subgrad {

// Arrays that must not share memory do.
struct Overlap : std::invalid_argument {
  using std::invalid_argument::invalid_argument;
};

// Throws for an array that cannot be written: read-only, or with elements that share memory.
void require_writable(const ArrayView& view, const Extents& extents, const Where& where);

class WrittenMemory {
 public:
  void clear() { *this = WrittenMemory(); }

  // Adds an array; both arguments are kept by address.
  void add(const Extents& array, const Where& where);

  // Call once after the last add: throws Overlap if arrays share memory.
  void seal();

  // After arrays have moved: takes their ranges anew, and throws as seal() does.
  void reseal();

  // After seal(): pays for those who look up many ranges.
  void index();

  // Whether a range of memory, which is not empty, meets that of an array; if so, refuse() looks
  // closer.
  bool meets(Range range) {
    const bool small = range.end - range.begin <= kSmall;
    if (small_ && small && !small_->may_meet(range)) return large_.meets(range);
    return all_.meets(range);
  }

  // Throws Overlap if an array that is read meets one that is written. It may be the very memory of
  // `own`, element for element: each is read before it is written.
  void refuse(const ArrayView& read, const Where& where, const Extents& own) const;

 private:
  struct Written {
    Range range;
    const Extents* array;
    const Where* where;
  };
  static constexpr std::ptrdiff_t kSmall = 32 << 10;  // bytes

  std::vector<Written> written_;  // ascending by address
  SortedRanges all_, large_;
  std::optional<LineFilter> small_;  // after index(); what is not in here is in large_
};

}  // namespace subgrad
