// A threshold estimated from a sample of the residuals, before they are touched.
#pragma once

#include <cstdint>
#include <vector>

#include "cpu/select/select.h"
#include "cpu/threshold/tensor.h"

namespace subgrad {

// The cut that would keep about k of the n elements of all tensors. It looks at one cache line in
// 64, of few elements at more: at least 65,536 of them. Which lines is a function of the sizes
// alone. Zeros are never kept.
Cut estimated_cut(const std::vector<const ChunkedTensor*>& tensors, std::int64_t n, std::int64_t k);

}  // namespace subgrad
