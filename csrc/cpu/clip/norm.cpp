#include "cpu/clip/norm.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "core/convert.h"
#include "cpu/clip/blocks.h"
#include "cpu/kernel_table.h"
#include "cpu/support/runs.h"
#include "cpu/support/share.h"
#include "cpu/support/spans.h"

namespace subgrad {
namespace {

std::int64_t bytes_of(const Gradient& g) { return static_cast<std::int64_t>(size_of(g.dtype)); }

// Room for a block of a gradient that does not lie in one run.
struct Packed {
  alignas(64) char bytes[kNormBlock * sizeof(double)];
};

Operand operand_of(const Gradient& g) { return {g.data, &Layout::Dim::grad_stride, g.dtype}; }

// What visit(i, data, n, dtype) gives for each block of each gradient i, in their order.
template <class Visit>
Recycled<double> by_block(const std::vector<Gradient>& gradients, const Visit& visit) {
  Recycled<std::int64_t> first(gradients.size());
  std::int64_t blocks = 0;
  for (std::size_t i = 0; i < gradients.size(); ++i) {
    first[i] = blocks;
    blocks += norm_blocks(gradients[i].n);
  }
  Recycled<double> found(static_cast<std::size_t>(blocks));
  const auto load_of = [&](std::size_t i) {
    return Load{gradients[i].n, bytes_of(gradients[i]), kNormBlock};
  };
  share_work(gradients.size(), load_of, [&](std::size_t i, std::int64_t begin, std::int64_t end) {
    const Gradient& g = gradients[i];
    RunAhead run(g.layout, operand_of(g), kNormBlock);
    for (; begin < end; begin += kNormBlock) {
      const std::int64_t n = std::min(kNormBlock, g.n - begin);
      found[static_cast<std::size_t>(first[i] + begin / kNormBlock)] =
          visit(i, run.load(begin, n, std::max(end, begin + n)), n, g.dtype);
    }
  });
  return found;
}

double element(const char* data, std::int64_t i, DType dtype) {
  double value = 0.0;
  with_element(dtype, [&](auto type) {
    std::memcpy(&type, data + i * std::int64_t{sizeof type}, sizeof type);
    value = widen<double>(type);
  });
  return value;
}

}  // namespace

double block_squares(const char* data, std::int64_t n, DType dtype, int exponent) {
  double sums[kSquareSums] = {};
  for (std::int64_t i = 0; i < n; ++i) {
    const double x = std::ldexp(element(data, i, dtype), -exponent);
    double& sum = sums[i % kSquareSums];
    sum = std::fma(x, x, sum);
  }
  for (int half = kSquareSums / 2; half > 0; half /= 2) {
    for (int s = 0; s < half; ++s) sums[s] += sums[s + half];
  }
  return sums[0];
}

double block_largest(const char* data, std::int64_t n, DType dtype) {
  const std::uint64_t bits = kernels().largest_bits[static_cast<int>(dtype)](data, n);
  return std::fabs(element(reinterpret_cast<const char*>(&bits), 0, dtype));
}

SquareSums square_sums(const std::vector<Gradient>& gradients) {
  return add_squares(
      gradients.size(),
      [&](std::size_t i) { return InBlocks{gradients[i].dtype, norm_blocks(gradients[i].n)}; },
      [&](const auto& visit) { return by_block(gradients, visit); });
}

double largest_magnitude(const std::vector<Gradient>& gradients) {
  double largest = 0.0;
  const auto look = [](std::size_t, const char* data, std::int64_t n, DType t) {
    return block_largest(data, n, t);
  };
  for (const double x : by_block(gradients, look)) largest = larger(largest, x);
  return largest;
}

void clip_gradients(const std::vector<Gradient>& gradients, const Stages& stages) {
  const KernelTable& table = kernels();
  const auto load_of = [&](std::size_t i) {
    const bool changed = !stages[i].changes_nothing();
    return Load{changed ? gradients[i].n : 0, 2 * bytes_of(gradients[i]), kNormBlock};
  };
  share_work(gradients.size(), load_of, [&](std::size_t i, std::int64_t begin, std::int64_t end) {
    const Gradient& g = gradients[i];
    const ClipKernel kernel = table.clip_in_place[static_cast<int>(g.dtype)];
    if (g.layout == nullptr) {
      char* const data = static_cast<char*>(g.data) + begin * bytes_of(g);
      kernel(data, data, end - begin, stages[i]);
      return;
    }
    Packed packed;
    for (; begin < end; begin += kNormBlock) {
      const std::int64_t n = std::min(kNormBlock, end - begin);
      pack(*g.layout, operand_of(g), begin, n, packed.bytes);
      kernel(packed.bytes, packed.bytes, n, stages[i]);
      unpack(*g.layout, operand_of(g), begin, n, packed.bytes);
    }
  });
}

}  // namespace subgrad
