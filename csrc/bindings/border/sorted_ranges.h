// Ranges of memory in the order of their addresses, to be searched.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "bindings/border/extents.h"

namespace subgrad {

class SortedRanges {
 public:
  SortedRanges() = default;

  // Ascending by their beginnings.
  explicit SortedRanges(const std::vector<Range>& ranges) {
    for (const Range& r : ranges) {
      begins_.push_back(r.begin);
      reaches_.push_back(reaches_.empty() ? r.end : std::max(reaches_.back(), r.end));
    }
  }

  // How many begin before an address, and where the first k of them have all ended.
  std::size_t before(const char* address) const {
    return static_cast<std::size_t>(std::lower_bound(begins_.begin(), begins_.end(), address) -
                                    begins_.begin());
  }
  const char* reach(std::size_t k) const { return k > 0 ? reaches_[k - 1] : nullptr; }

  // Whether a range meets one of them. Those that are looked up one after the other tend to lie
  // side by side, so many are in the gap that the one before was found in.
  bool meets(Range range) {
    if (gap_.begin <= range.begin && range.end <= gap_.end) return false;
    constexpr std::uintptr_t kLast = ~std::uintptr_t{0};
    const std::size_t k = before(range.end);
    if (reach(k) > range.begin) return true;
    gap_ = {reach(k), k < begins_.size() ? begins_[k] : reinterpret_cast<const char*>(kLast)};
    return false;
  }

 private:
  std::vector<const char*> begins_, reaches_;
  Range gap_{};  // between two of them
};

}  // namespace subgrad
