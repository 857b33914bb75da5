#include "cpu/clip/norm.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "core/convert.h"
#include "cpu/kernel_table.h"
#include "cpu/support/layout.h"
#include "cpu/support/share.h"
#include "cpu/support/spans.h"

namespace subgrad {
namespace {

std::int64_t bytes_of(const Gradient& g) { return static_cast<std::int64_t>(size_of(g.dtype)); }

// Room for a block of a gradient that does not lie in one run.
struct Packed {
  alignas(64) char bytes[kBlockElements * sizeof(double)];
};

Operand operand_of(const Gradient& g) { return {g.data, &Layout::Dim::grad_stride, g.dtype}; }

// The elements [begin, begin + n) as one run: where they are, or in `packed`.
const char* run_of(const Gradient& g, std::int64_t begin, std::int64_t n, Packed& packed) {
  if (g.layout == nullptr) return static_cast<const char*>(g.data) + begin * bytes_of(g);
  pack(*g.layout, operand_of(g), begin, n, packed.bytes);
  return packed.bytes;
}

std::int64_t blocks_of(const Gradient& g) { return (g.n + kBlockElements - 1) / kBlockElements; }

// What visit(data, n, dtype) gives for each block of each gradient, in their order.
template <class T, class Visit>
std::vector<T> by_block(const std::vector<Gradient>& gradients, const Visit& visit) {
  std::vector<std::int64_t> first(gradients.size());
  std::int64_t blocks = 0;
  for (std::size_t i = 0; i < gradients.size(); ++i) {
    first[i] = blocks;
    blocks += blocks_of(gradients[i]);
  }
  std::vector<T> found(static_cast<std::size_t>(blocks));
  const auto load_of = [&](std::size_t i) {
    return Load{gradients[i].n, bytes_of(gradients[i]), kBlockElements};
  };
  share_work(gradients.size(), load_of, [&](std::size_t i, std::int64_t begin, std::int64_t end) {
    const Gradient& g = gradients[i];
    Packed packed;
    for (; begin < end; begin += kBlockElements) {
      const std::int64_t n = std::min(kBlockElements, g.n - begin);
      found[static_cast<std::size_t>(first[i] + begin / kBlockElements)] =
          visit(run_of(g, begin, n, packed), n, g.dtype);
    }
  });
  return found;
}

// The sum of each gradient's part of what was found by block.
std::vector<SquareSum> sums_of(const std::vector<Gradient>& gradients,
                               const std::vector<double>& blocks, int exponent) {
  std::vector<SquareSum> sums;
  sums.reserve(gradients.size());
  auto block = blocks.begin();
  for (const Gradient& g : gradients) {
    double sum = 0.0;
    for (const auto end = block + blocks_of(g); block != end; ++block) sum += *block;
    sums.push_back({sum, exponent});
  }
  return sums;
}

double element(const char* data, std::int64_t i, DType dtype) {
  double value = 0.0;
  with_element(dtype, [&](auto type) {
    std::memcpy(&type, data + i * std::int64_t{sizeof type}, sizeof type);
    value = widen<double>(type);
  });
  return value;
}

// The sum of squares as SquaresKernel adds it, of elements times 2^-exponent.
double scaled_squares(const char* data, std::int64_t n, DType dtype, int exponent) {
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

// Whether squares of f64 elements may have left the range of f64, or lost bits at its lower end.
bool out_of_range(const Gradient& g, double sum) {
  return g.dtype == DType::f64 && g.n > 0 && !(sum > 0x1p-900 && sum < 0x1p1000);
}

double magnitude_from(std::uint64_t bits, DType dtype) {
  return std::fabs(element(reinterpret_cast<const char*>(&bits), 0, dtype));
}

// The sum once more, of elements divided by a power of two that is near the largest of them.
SquareSum scaled_sum(const Gradient& g, const SquareSum& plain) {
  const double largest = largest_magnitude({g});
  if (!(largest > 0.0) || !std::isfinite(largest)) return plain;
  const int exponent = std::ilogb(largest);
  const auto visit = [&](const char* data, std::int64_t n, DType dtype) {
    return scaled_squares(data, n, dtype, exponent);
  };
  return sums_of({g}, by_block<double>({g}, visit), exponent).front();
}

}  // namespace

void SquareSum::add(const SquareSum& other) {
  if (exponent == other.exponent || other.value == 0.0) {
    value += other.value;
    return;
  }
  const int common = value == 0.0 ? other.exponent : std::max(exponent, other.exponent);
  value = std::ldexp(value, 2 * (exponent - common)) +
          std::ldexp(other.value, 2 * (other.exponent - common));
  exponent = common;
}

double SquareSum::norm() const { return std::ldexp(std::sqrt(value), exponent); }

std::vector<SquareSum> square_sums(const std::vector<Gradient>& gradients) {
  const KernelTable& table = kernels();
  const auto visit = [&](const char* data, std::int64_t n, DType dtype) {
    return table.squares[static_cast<int>(dtype)](data, n);
  };
  std::vector<SquareSum> sums = sums_of(gradients, by_block<double>(gradients, visit), 0);
  for (std::size_t i = 0; i < gradients.size(); ++i) {
    if (out_of_range(gradients[i], sums[i].value)) sums[i] = scaled_sum(gradients[i], sums[i]);
  }
  return sums;
}

double largest_magnitude(const std::vector<Gradient>& gradients) {
  const KernelTable& table = kernels();
  const auto blocks =
      by_block<double>(gradients, [&](const char* data, std::int64_t n, DType dtype) {
        return magnitude_from(table.largest_bits[static_cast<int>(dtype)](data, n), dtype);
      });
  double largest = 0.0;
  for (const double x : blocks) {
    if (std::isnan(x)) return x;
    largest = std::max(largest, x);
  }
  return largest;
}

void clip_gradients(const std::vector<Gradient>& gradients,
                    const std::vector<GradientStage>& stages) {
  const KernelTable& table = kernels();
  const auto load_of = [&](std::size_t i) {
    const bool changed = !stages[i].changes_nothing();
    return Load{changed ? gradients[i].n : 0, 2 * bytes_of(gradients[i]), kBlockElements};
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
    for (; begin < end; begin += kBlockElements) {
      const std::int64_t n = std::min(kBlockElements, end - begin);
      pack(*g.layout, operand_of(g), begin, n, packed.bytes);
      kernel(packed.bytes, packed.bytes, n, stages[i]);
      unpack(*g.layout, operand_of(g), begin, n, packed.bytes);
    }
  });
}

}  // namespace subgrad
