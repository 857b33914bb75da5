#include "cpu/sparsify/sparsify.h"

#include <cmath>
#include <cstring>

#include "cpu/select/select.h"
#include "cpu/support/share.h"
#include "rules/prox.h"

namespace subgrad {
namespace {

// Elements that are packed, or whose squares are summed, at a time.
constexpr std::int64_t kBlock = 512;
using Packed = char[kBlock * 8];

// A row that is longer is read from memory a second time, by all threads; others stay in a cache
// between their norm and their scaling.
constexpr std::int64_t kRowBytes = 256 << 10;

std::int64_t size_bytes(const WeightSpan& w) { return static_cast<std::int64_t>(size_of(w.dtype)); }

char* at(const WeightSpan& w, std::int64_t i) {
  return static_cast<char*>(w.data) + i * size_bytes(w);
}

Operand operand(const WeightSpan& w) { return {w.data, &Layout::Dim::param_stride, w.dtype}; }

// Calls kernel(elements, n) for the elements [begin, end): at once where they are one run, else for
// packed blocks of a multiple of `unit` elements.
template <class Kernel>
void update(const WeightSpan& w, std::int64_t begin, std::int64_t end, std::int64_t unit,
            const Kernel& kernel) {
  if (w.layout == nullptr) {
    kernel(at(w, begin), end - begin);
    return;
  }
  alignas(64) Packed block;
  const std::int64_t step = kBlock / unit * unit;
  for (std::int64_t i = begin; i < end; i += step) {
    const std::int64_t n = std::min(step, end - i);
    pack(*w.layout, operand(w), i, n, block);
    kernel(block, n);
    unpack(*w.layout, operand(w), i, n, block);
  }
}

double sum_squares(const WeightSpan& w, std::int64_t begin, std::int64_t n) {
  const auto kernel = kernels().sum_squares[int(w.dtype)];
  if (w.layout == nullptr) return kernel(at(w, begin), n, 0).kept;
  alignas(64) Packed block;
  pack(*w.layout, operand(w), begin, n, block);
  return kernel(block, n, 0).kept;
}

// Of float64 elements times `factor`.
double sum_scaled_squares(const WeightSpan& w, std::int64_t begin, std::int64_t n, double factor) {
  alignas(64) double block[kBlock];
  if (w.layout == nullptr) {
    std::memcpy(block, at(w, begin), static_cast<std::size_t>(n * size_bytes(w)));
  } else {
    pack(*w.layout, operand(w), begin, n, block);
  }
  for (std::int64_t i = 0; i < n; ++i) block[i] *= factor;
  return kernels().sum_squares[int(w.dtype)](block, n, 0).kept;
}

// What a row is multiplied by. sum_of(sum_of_block) adds up what that returns for each of the row's
// blocks (begin, n), in one order.
template <class SumOf>
double scale_of(const WeightSpan& w, double threshold, const SumOf& sum_of) {
  double factor = 1.0;
  double sum = sum_of([&](std::int64_t begin, std::int64_t n) { return sum_squares(w, begin, n); });
  if (w.dtype == DType::f64) factor = square_factor(sum);  // the squares of others stay in it
  if (factor != 1.0) {
    sum = sum_of([&](std::int64_t begin, std::int64_t n) {
      return sum_scaled_squares(w, begin, n, factor);
    });
  }
  return group_scale(threshold * factor, std::sqrt(sum));
}

void scale_row(const WeightSpan& w, std::int64_t begin, std::int64_t end, double scale) {
  update(w, begin, end, 1, [&](char* x, std::int64_t n) {
    if (scale == 0.0) {
      std::memset(x, 0, static_cast<std::size_t>(n * size_bytes(w)));
    } else {
      kernels().shrink[int(w.dtype)](x, n, 0.0, scale);
    }
  });
}

void shrink_row(const WeightSpan& w, std::int64_t begin, double threshold) {
  const auto sum_of = [&](const auto& sum_of_block) {
    double sum = 0.0;
    for (std::int64_t i = 0; i < w.row; i += kBlock) {
      sum += sum_of_block(begin + i, std::min(kBlock, w.row - i));
    }
    return sum;
  };
  scale_row(w, begin, begin + w.row, scale_of(w, threshold, sum_of));
}

// The same sums in the same order, each block's by whichever thread.
void shrink_long_row(const WeightSpan& w, std::int64_t begin, double threshold) {
  const std::int64_t blocks = (w.row + kBlock - 1) / kBlock;
  std::vector<double> sums(static_cast<std::size_t>(blocks));
  const Load load{blocks, kBlock * size_bytes(w)};
  const auto sum_of = [&](const auto& sum_of_block) {
    share_work(
        1, [&](std::size_t) { return load; },
        [&](std::size_t, std::int64_t from, std::int64_t to) {
          for (std::int64_t b = from; b < to; ++b) {
            const std::int64_t i = b * kBlock;
            sums[static_cast<std::size_t>(b)] =
                sum_of_block(begin + i, std::min(kBlock, w.row - i));
          }
        });
    double sum = 0.0;
    for (const double s : sums) sum += s;
    return sum;
  };
  const double scale = scale_of(w, threshold, sum_of);
  const Load elements{w.row, 2 * size_bytes(w), kSplitElements};
  share_work(
      1, [&](std::size_t) { return elements; },
      [&](std::size_t, std::int64_t from, std::int64_t to) {
        scale_row(w, begin + from, begin + to, scale);
      });
}

// Arrays as spans of elements in row-major order; strided ones in a copy.
struct Spans {
  std::vector<Span> spans;
  std::vector<LargeArray<char>> copies;

  explicit Spans(const std::vector<WeightSpan>& arrays) {
    for (const WeightSpan& w : arrays) {
      const void* data = w.data;
      if (w.layout != nullptr) {
        copies.push_back(large_array<char>(static_cast<std::size_t>(w.n * size_bytes(w))));
        pack(*w.layout, operand(w), 0, w.n, copies.back().get());
        data = copies.back().get();
      }
      spans.push_back({data, w.dtype, w.n});
    }
  }
};

// What the cut does not keep becomes +0.
void apply_cut(const std::vector<WeightSpan>& arrays, const Cut& cut) {
  const KernelTable& table = kernels();
  std::vector<std::int64_t> starts;
  std::int64_t position = 0;
  for (const WeightSpan& w : arrays) {
    starts.push_back(position);
    position += w.n;
  }
  const auto load_of = [&](std::size_t i) {
    return Load{arrays[i].n, 2 * size_bytes(arrays[i]), kSplitElements};
  };
  share_work(arrays.size(), load_of, [&](std::size_t i, std::int64_t begin, std::int64_t end) {
    const WeightSpan& w = arrays[i];
    const auto kernel = table.keep_at_least[int(w.dtype)];
    const auto keep = [&](std::uint64_t key) {
      return [kernel, key](char* x, std::int64_t n) { kernel(x, n, key); };
    };
    const std::int64_t boundary = std::clamp(cut.boundary - starts[i], begin, end);
    update(w, begin, boundary, 1, keep(cut.key));
    update(w, boundary, end, 1, keep(cut.behind));
  });
}

}  // namespace

void shrink(const std::vector<WeightSpan>& arrays, double threshold, double scale) {
  const KernelTable& table = kernels();
  const auto load_of = [&](std::size_t i) {
    return Load{arrays[i].n, 2 * size_bytes(arrays[i]), kSplitElements};
  };
  share_work(arrays.size(), load_of, [&](std::size_t i, std::int64_t begin, std::int64_t end) {
    const auto kernel = table.shrink[int(arrays[i].dtype)];
    update(arrays[i], begin, end, 1,
           [&](char* x, std::int64_t n) { kernel(x, n, threshold, scale); });
  });
}

void shrink_rows(const std::vector<WeightSpan>& arrays, double threshold) {
  if (threshold == 0.0) return;  // a row of zeros would ask for 0 / 0
  const auto is_long = [](const WeightSpan& w) { return w.row * size_bytes(w) > kRowBytes; };
  for (const WeightSpan& w : arrays) {
    if (!is_long(w)) continue;
    for (std::int64_t i = 0; i < w.n; i += w.row) shrink_long_row(w, i, threshold);
  }
  const auto load_of = [&](std::size_t i) {
    const WeightSpan& w = arrays[i];
    return is_long(w) ? Load{0, 1} : Load{w.n / w.row, 2 * w.row * size_bytes(w)};
  };
  share_work(arrays.size(), load_of, [&](std::size_t i, std::int64_t begin, std::int64_t end) {
    const WeightSpan& w = arrays[i];
    for (std::int64_t row = begin; row < end; ++row) shrink_row(w, row * w.row, threshold);
  });
}

void apply_masks(const std::vector<WeightSpan>& arrays) {
  const KernelTable& table = kernels();
  const auto load_of = [&](std::size_t i) {
    return Load{arrays[i].n, 2 * size_bytes(arrays[i]) + 1, kSplitElements};
  };
  share_work(arrays.size(), load_of, [&](std::size_t i, std::int64_t begin, std::int64_t end) {
    const WeightSpan& w = arrays[i];
    const auto kernel = table.apply_mask[int(w.dtype)];
    if (w.layout == nullptr) {
      kernel(at(w, begin), w.mask + begin, end - begin);
      return;
    }
    Operand mask_operand{const_cast<std::uint8_t*>(w.mask), &Layout::Dim::grad_stride, w.dtype};
    mask_operand.size = 1;
    std::int64_t position = begin;
    std::uint8_t mask[kBlock];
    update(w, begin, end, 1, [&](char* x, std::int64_t n) {
      pack(*w.layout, mask_operand, position, n, mask);
      kernel(x, mask, n);
      position += n;
    });
  });
}

void keep_largest(const std::vector<WeightSpan>& arrays, std::int64_t k) {
  apply_cut(arrays, kth_magnitude(Spans(arrays).spans, k));
}

void keep_at_least(const std::vector<WeightSpan>& arrays, double threshold) {
  for (const WeightSpan& w : arrays)
    apply_cut({w}, threshold_cut({{w.data, w.dtype, w.n}}, threshold));
}

void keep_pattern(const std::vector<WeightSpan>& arrays, int keep, int m) {
  const KernelTable& table = kernels();
  const auto load_of = [&](std::size_t i) {
    return Load{arrays[i].n / m, 2 * m * size_bytes(arrays[i]), kSplitElements};
  };
  share_work(arrays.size(), load_of, [&](std::size_t i, std::int64_t begin, std::int64_t end) {
    const auto kernel = table.keep_pattern[int(arrays[i].dtype)];
    update(arrays[i], begin * m, end * m, m,
           [&](char* x, std::int64_t n) { kernel(x, n / m, keep, m); });
  });
}

}  // namespace subgrad
