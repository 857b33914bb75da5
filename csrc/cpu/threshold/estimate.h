// A threshold estimated from a sample of the residuals, before they are touched.
#pragma once

#include <cstdint>
#include <vector>

#include "cpu/select/select.h"
#include "cpu/threshold/tensor.h"

namespace subgrad {

// A cut that keeps about k of the n elements of all tensors, whatever they are: of those that tie
// at it the first, as in exact selection. It looks at one cache line in 64, of few elements at more
// (at least 65,536 of them) and of few that are to be kept as well: about 32 lines' worth is found,
// or else all are looked at. Which lines is a function of the sizes and k. Zeros are never kept.
//
// `last`: a threshold that is kept if the sample says that it keeps 2/3 to 3/2 of k; 0 for none.
Cut estimated_cut(const std::vector<const ChunkedTensor*>& tensors, std::int64_t n, std::int64_t k,
                  double last);

}  // namespace subgrad
