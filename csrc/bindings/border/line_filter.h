// A quick "no" to whether a range of memory meets any of many small arrays: in a training loop
// backward makes new gradients at every step, at addresses in no order, and a search among the
// arrays mispredicts half of its branches. torch aligns tensors to the lines (64 bytes) that are
// told apart here.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "bindings/border/extents.h"

namespace subgrad {

class LineFilter {
 public:
  // Ranges that are not empty, ascending by their beginnings.
  explicit LineFilter(const std::vector<Range>& ranges) {
    std::uintptr_t pages = 0, next = 0;
    for (const Range& r : ranges) {
      const std::uintptr_t end = line_of(r.end - 1) / 64 + 1;
      pages += end - std::min(end, std::max(next, line_of(r.begin) / 64));
      next = std::max(next, end);
    }
    std::size_t places = 2;
    while (places < 8 * pages) places *= 2, --shift_;
    lines_.resize(places);
    for (const Range& r : ranges) {
      for_pages(r, [this](std::uintptr_t page, std::uint64_t lines) {
        lines_[place(page)] |= lines;
        return false;
      });
    }
  }

  // False: a range that is not empty shares no line with any of them. True: perhaps it does.
  bool may_meet(Range range) const {
    return for_pages(range, [this](std::uintptr_t page, std::uint64_t lines) {
      return (lines_[place(page)] & lines) != 0;
    });
  }

 private:
  static std::uintptr_t line_of(const char* p) { return reinterpret_cast<std::uintptr_t>(p) / 64; }

  // Calls visit(page, lines) for the pages (64 lines each) of a range, until one returns true.
  template <class Visit>
  static bool for_pages(Range range, const Visit& visit) {
    const std::uintptr_t begin = line_of(range.begin), last = line_of(range.end - 1);
    constexpr std::uint64_t all = ~std::uint64_t{0};
    std::uint64_t from = all << begin % 64;
    for (std::uintptr_t page = begin / 64; page < last / 64; ++page) {
      if (visit(page, from)) return true;
      from = all;
    }
    return visit(last / 64, from & all >> (63 - last % 64));
  }

  // Fibonacci hashing; pages that share a place are not told apart.
  std::size_t place(std::uint64_t page) const {
    return static_cast<std::size_t>(page * 0x9e3779b97f4a7c15u >> shift_);
  }

  int shift_ = 63;
  std::vector<std::uint64_t> lines_;  // bit i: line i of a page; a power of two of them
};

}  // namespace subgrad
