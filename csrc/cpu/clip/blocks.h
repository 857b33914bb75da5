// Sums of squares of gradients that are met block by block, whoever holds them.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "cpu/clip/norm.h"
#include "cpu/kernel_table.h"

namespace subgrad {

// Of one block: the largest magnitude, or NaN if one is; the sum of squares as SquaresKernel adds
// it, of elements times 2^-exponent.
double block_largest(const char* data, std::int64_t n, DType dtype);
double block_squares(const char* data, std::int64_t n, DType dtype, int exponent);

// A gradient that is met in so many blocks.
struct InBlocks {
  DType dtype;
  std::int64_t blocks;
};

double largest_of(const std::vector<double>& blocks);

// Blocks in their order, gradient by gradient.
template <class Of>
std::vector<double> sums_of(std::size_t count, const Of& in_blocks,
                            const std::vector<double>& blocks) {
  std::vector<double> sums;
  sums.reserve(count);
  auto block = blocks.begin();
  for (std::size_t i = 0; i < count; ++i) {
    double sum = 0.0;
    for (const auto end = block + in_blocks(i).blocks; block != end; ++block) sum += *block;
    sums.push_back(sum);
  }
  return sums;
}

// Of `count` gradients, where in_blocks(i) tells of gradient i, and by_block(visit) gives what
// visit(data, n, dtype) gives for each block of each of them, in their order.
template <class Of, class ByBlock>
SquareSums add_squares(std::size_t count, const Of& in_blocks, const ByBlock& by_block) {
  const KernelTable& table = kernels();
  SquareSums found;
  found.sums = sums_of(count, in_blocks, by_block([&](const char* data, std::int64_t n, DType t) {
                         return table.squares[static_cast<int>(t)](data, n);
                       }));
  // Whether squares of f64 elements may have left the range of f64, or lost bits at its lower end.
  bool again = false;
  for (std::size_t i = 0; i < count; ++i) {
    const auto [dtype, blocks] = in_blocks(i);
    const double sum = found.sums[i];
    again = again || (dtype == DType::f64 && blocks > 0 && !(sum > 0x1p-900 && sum < 0x1p1000));
  }
  if (!again) return found;
  const double largest = largest_of(by_block(block_largest));
  if (!(largest > 0.0) || !std::isfinite(largest)) return found;
  found.exponent = std::ilogb(largest);
  found.sums = sums_of(count, in_blocks, by_block([&](const char* data, std::int64_t n, DType t) {
                         return block_squares(data, n, t, found.exponent);
                       }));
  return found;
}

}  // namespace subgrad
