// Selection by magnitude among elements of which other processes have the rest: all of them find
// the same cut, the one that would be found of all elements in one place.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <vector>

#include "cpu/select/select.h"

namespace subgrad {

struct Peers {
  // What a span is of an array that processes hold together. Elements of a span lie in the order
  // that they have in the whole array.
  struct Part {
    bool counted;         // here: of replicas one process counts
    std::int64_t offset;  // of the array's first element, counted through all arrays
    // By dimension, the outermost first: what each index along it adds to an element's position.
    std::vector<std::vector<std::int64_t>> steps;

    std::int64_t position(std::int64_t element) const;
  };
  std::vector<Part> parts;  // by span
  std::int64_t elements;    // of all arrays
  // Replaces counts by their sums over all processes. May throw.
  std::function<void(std::vector<std::int64_t>& counts)> add_up;
};

// The cut that keeps exactly the k largest magnitudes of all arrays, as kth_magnitude; its boundary
// is that of the elements that lie here. All processes call it with the same k, and each adds up as
// often as the others: once for each digit of a key, and of a position if ties are parted.
Cut kth_magnitude(const std::vector<Span>& spans, std::int64_t k, const Peers& peers);

}  // namespace subgrad
