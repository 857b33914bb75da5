// Weights made sparse in place: work lists over any number of arrays, and the loops that share
// them among threads. No split changes a bit, and nothing is written before the last chance to
// fail.
#pragma once

#include <cstdint>
#include <vector>

#include "cpu/kernel_table.h"
#include "cpu/support/layout.h"

namespace subgrad {

// One array. Where its order matters (rows, groups) its layout is row-major.
struct WeightSpan {
  void* data;
  DType dtype;
  std::int64_t n;                      // elements
  const Layout* layout;                // null: one contiguous run
  const std::uint8_t* mask = nullptr;  // one byte an element, the layout's second operand
  std::int64_t row = 0;                // elements of a row
};

// w = sign(w) * max(|w| - threshold, 0) * scale.
void shrink(const std::vector<WeightSpan>& arrays, double threshold, double scale);

// row = row * max(1 - threshold / ||row||_2, 0). Norms are summed in double.
void shrink_rows(const std::vector<WeightSpan>& arrays, double threshold);

// What has a zero in its mask becomes +0.
void apply_masks(const std::vector<WeightSpan>& arrays);

// The k largest magnitudes of all arrays together stay, every NaN counting as largest, the lowest
// (array, index) first where they are equal; the others become +0. 0 <= k <= the elements. f64 does
// not meet other types.
void keep_largest(const std::vector<WeightSpan>& arrays, std::int64_t k);

// Every |w| >= threshold stays, and every NaN; the others become +0.
void keep_at_least(const std::vector<WeightSpan>& arrays, double threshold);

// The `keep` largest magnitudes of each m neighbours stay, leftmost first where they are equal; the
// others become +0. m divides every length.
void keep_pattern(const std::vector<WeightSpan>& arrays, int keep, int m);

}  // namespace subgrad
