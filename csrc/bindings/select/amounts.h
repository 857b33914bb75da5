// How many to keep, and of what: arguments that selection and thresholding share.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

#include "bindings/border/arrays.h"
#include "cpu/support/spans.h"

namespace subgrad {

inline void require_k(std::int64_t k, std::int64_t least, std::int64_t n,
                      const std::string& whose) {
  if (k >= least && k <= n) return;
  throw py::value_error("k: expected " + std::to_string(least) + " to " + std::to_string(n) +
                        ", the elements of " + whose + ", got " + std::to_string(k));
}

// Half is rounded up, and of something at least one is kept.
inline std::int64_t k_of(double density, std::int64_t n) {
  if (density == 0.0) return 0;
  const auto k = static_cast<std::int64_t>(std::floor(density * static_cast<double>(n) + 0.5));
  return std::clamp<std::int64_t>(k, std::min<std::int64_t>(n, 1), n);
}

// Throws where arrays that are ranked together are not computed in one type.
inline void refuse_mixed(const std::vector<Span>& spans, const std::vector<Where>& wheres) {
  for (std::size_t i = 1; i < spans.size(); ++i) {
    const DType first = spans[0].dtype, other = spans[i].dtype;
    if ((first == DType::f64) != (other == DType::f64)) {
      throw py::type_error(wheres[i].text() + ": " + name_of(other) +
                           " cannot be ranked together with " + name_of(first) + " of " +
                           wheres[0].text());
    }
  }
}

}  // namespace subgrad
