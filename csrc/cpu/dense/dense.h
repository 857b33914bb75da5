// One dense step over any number of tensors: the work list and the loop that shares it among
// threads.
#pragma once

#include <cstdint>
#include <vector>

#include "core/work.h"
#include "cpu/clip/norm.h"

namespace subgrad {

// Runs a step: every tensor with its group's hyper-parameters, which are numbers here. One parallel
// region over all elements, or none where the work is too small to share. Touches only memory that
// the tensors name; cannot fail. Elementwise, so the split among threads cannot change a bit.
void run_dense(const std::vector<DenseTensor>& tensors, const std::vector<DenseGroup>& groups);

// The same with averages, and with a stage for each tensor's gradient. From the last element to the
// first: where the gradients have been measured before, the last of them are still in the caches.
void run_staged(const std::vector<DenseTensor>& tensors, const std::vector<DenseGroup>& groups,
                const Stages& stages);

}  // namespace subgrad
