// The memory that a step writes. Arrays that meet in it would make the result depend on the order
// of work, so they are refused.
#pragma once

#include <stdexcept>
#include <vector>

#include "bindings/extents.h"

namespace subgrad {

// Arrays that must not share memory do.
struct Overlap : std::invalid_argument {
  using std::invalid_argument::invalid_argument;
};

// Throws for an array that cannot be written: read-only, or with elements that share memory.
void require_writable(const ArrayView& view, const Extents& extents, const Where& where);

class WrittenMemory {
 public:
  void clear();

  // Adds an array; both arguments are kept by address.
  void add(const Extents& array, const Where& where);

  // Call once after the last add: throws Overlap if arrays share memory.
  void seal();

  // Whether a range of memory meets that of an array; if so, refuse() looks closer. Gradients tend
  // to lie side by side, so most fit into the gap between arrays that the one before was found in.
  bool meets(Range range) {
    if (gap_.begin <= range.begin && range.end <= gap_.end) return false;
    return !find_gap(range);
  }

  // Throws Overlap if an array that is read meets one that is written. It may be the very memory of
  // `own`, element for element: each is read before it is written.
  void refuse(const ArrayView& read, const Where& where, const Extents& own) const;

 private:
  struct Written {
    const char* begin;
    const char* end;
    const Extents* array;
    const Where* where;
  };
  bool find_gap(Range range);

  // Ascending by address. Beginnings and reaches (the largest end of all that begin no later) stand
  // apart: new gradients are looked up in them.
  std::vector<Written> written_;
  std::vector<const char*> begins_, reaches_;
  Range gap_{};  // memory of no array, in which the last range was found
};

}  // namespace subgrad
