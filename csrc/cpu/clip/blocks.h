// Sums of squares of gradients that are met block by block, whoever holds them.
#pragma once

#include <cstdint>

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

// What is found in the blocks of each gradient, put together in their order, by gradient.
template <class Of, class Join>
Recycled<double> by_gradient(std::size_t count, const Of& in_blocks, const Recycled<double>& blocks,
                             const Join& join) {
  Recycled<double> all;
  all.reserve(count);
  auto block = blocks.begin();
  for (std::size_t i = 0; i < count; ++i) {
    double one = 0.0;
    for (const auto end = block + in_blocks(i).blocks; block != end; ++block) {
      one = join(one, *block);
    }
    all.push_back(one);
  }
  return all;
}

// Of `count` gradients, where in_blocks(i) tells of gradient i, and by_block(visit) gives what
// visit(i, data, n, dtype) gives for each block of each of them, in their order.
template <class Of, class ByBlock>
SquareSums add_squares(std::size_t count, const Of& in_blocks, const ByBlock& by_block) {
  const KernelTable& table = kernels();
  const auto plus = [](double a, double b) { return a + b; };
  const auto most = [](double a, double b) { return larger(a, b); };
  SquareSums sums;
  sums.reserve(count);
  bool again = false;
  const auto plain = [&](std::size_t, const char* data, std::int64_t n, DType t) {
    return table.squares[static_cast<int>(t)](data, n);
  };
  for (const double sum : by_gradient(count, in_blocks, by_block(plain), plus)) {
    const auto [dtype, blocks] = in_blocks(sums.size());
    again = again || (dtype == DType::f64 && blocks > 0 && is_out_of_range(sum));
    sums.push_back({sum, 0});
  }
  if (!again) return sums;
  const auto look = [](std::size_t, const char* data, std::int64_t n, DType t) {
    return block_largest(data, n, t);
  };
  const auto largest = by_gradient(count, in_blocks, by_block(look), most);
  for (std::size_t i = 0; i < count; ++i) {
    if (in_blocks(i).dtype == DType::f64) sums[i].exponent = exponent_of(largest[i]);
  }
  const auto scaled = [&](std::size_t i, const char* data, std::int64_t n, DType t) {
    return block_squares(data, n, t, sums[i].exponent);
  };
  const auto values = by_gradient(count, in_blocks, by_block(scaled), plus);
  for (std::size_t i = 0; i < count; ++i) sums[i].value = values[i];
  return sums;
}

}  // namespace subgrad
