// Classes spread over the batches of an epoch.
#pragma once

#include <cstdint>
#include <vector>

namespace subgrad {

// The class of every row of an epoch, batch after batch: counts[c] rows of class c, in batches of
// `batch_size` rows and a last one of what is left.
//
// A batch's share of class c is rows of the batch * counts[c] / rows in all. It has so many rows of
// the class if that is a whole number; otherwise the next number below or above, at random, so that
// it has its share on average. There must be fewer than 2^32 rows.
std::vector<std::uint32_t> spread_classes(const std::vector<std::uint64_t>& counts,
                                          std::uint64_t batch_size, std::uint64_t key);

}  // namespace subgrad
