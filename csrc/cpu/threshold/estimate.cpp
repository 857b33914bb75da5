#include "cpu/threshold/estimate.h"

#include <algorithm>
#include <cmath>

#include "core/philox.h"
#include "cpu/kernel_table.h"
#include "cpu/support/regions.h"

namespace subgrad {
namespace {

constexpr std::int64_t kMinSample = 64 << 10;  // elements
constexpr std::int64_t kOneLineIn = 64;        // at the sparsest
// What is large may come in whole lines, as the rows of a table do: so many of them make the share
// that is found one of a sixth more or less.
constexpr std::int64_t kKeptLines = 32;
constexpr std::int64_t kLinesPerPart = kThresholdChunk / kThresholdLine;
constexpr std::int64_t kPartsPerThread = 16;  // below that a parallel region does not pay

std::int64_t ceil_div(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

// The lines of a tensor of n elements, one out of each group of `every`. A group's line is drawn,
// so that no period of the tensor's own can fall in step with the sample.
struct Lines {
  std::int64_t n, every;

  std::int64_t groups() const { return ceil_div(ceil_div(n, kThresholdLine), every); }

  ChunkedTensor::Line of(std::int64_t group) const {
    const std::int64_t first = group * every;
    const std::int64_t choices = std::min(every, ceil_div(n, kThresholdLine) - first);
    const std::uint64_t word = philox_words(0, static_cast<std::uint64_t>(group), 0).first;
    const auto drawn = static_cast<std::int64_t>(word % static_cast<std::uint64_t>(choices));
    const std::int64_t begin = (first + drawn) * kThresholdLine;
    return {begin, std::min(kThresholdLine, n - begin)};
  }

  // Only the last group can have drawn a line that is not full.
  std::int64_t sampled() const {
    return n == 0 ? 0 : (groups() - 1) * kThresholdLine + of(groups() - 1).n;
  }
};

// Some groups of one tensor, where that begins among all elements, and where in the sample they go.
struct Part {
  const ChunkedTensor* tensor;
  Lines lines;
  std::int64_t first_group, groups;
  std::int64_t offset, position;
};

// Which of all elements stands at this place of the sample.
std::int64_t element_at(const std::vector<Part>& parts, std::int64_t position) {
  const auto behind =
      std::upper_bound(parts.begin(), parts.end(), position,
                       [](std::int64_t p, const Part& part) { return p < part.position; });
  const Part& part = *(behind - 1);
  const std::int64_t i = position - part.position;
  const ChunkedTensor::Line line = part.lines.of(part.first_group + i / kThresholdLine);
  return part.offset + line.begin + i % kThresholdLine;
}

}  // namespace

Cut estimated_cut(const std::vector<const ChunkedTensor*>& tensors, std::int64_t n, std::int64_t k,
                  double last) {
  const DType type = tensors.empty() ? DType::f32 : tensors.front()->type();
  if (k == 0) return kth_magnitude({{nullptr, type, n}}, 0);
  const std::int64_t sparse = std::min(n / kMinSample, k / (kKeptLines * kThresholdLine));
  const std::int64_t every = std::clamp<std::int64_t>(sparse, 1, kOneLineIn);
  std::vector<Part> parts;
  std::int64_t size = 0, offset = 0;
  for (const ChunkedTensor* tensor : tensors) {
    const Lines lines{tensor->tensor().n, every};
    for (std::int64_t group = 0; group < lines.groups(); group += kLinesPerPart) {
      parts.push_back({tensor, lines, group, std::min(kLinesPerPart, lines.groups() - group),
                       offset, size + group * kThresholdLine});
    }
    size += lines.sampled();
    offset += lines.n;
  }
  const LargeArray<char> sample = large_array<char>(static_cast<std::size_t>(size) * size_of(type));
  const auto count = static_cast<std::int64_t>(parts.size());
  const int threads =
      static_cast<int>(std::clamp<std::int64_t>(count / kPartsPerThread, 1, num_threads()));
  const std::int64_t work = count * kLinesPerPart * kThresholdLine * 4;
  adaptive_for(threads, count, work, [&](std::int64_t slot) {
    const Part& part = parts[static_cast<std::size_t>(slot)];
    ChunkedTensor::Line lines[kLinesPerPart];
    for (std::int64_t i = 0; i < part.groups; ++i) lines[i] = part.lines.of(part.first_group + i);
    part.tensor->preview(lines, part.groups,
                         sample.get() + part.position * static_cast<std::int64_t>(size_of(type)));
  });
  const double wanted = static_cast<double>(k) * static_cast<double>(size) / static_cast<double>(n);
  if (last > 0.0) {
    const Cut cut = threshold_cut({{nullptr, type, n}}, last);
    const CountKeysKernel count_keys = kernels().count_keys[static_cast<int>(type)];
    const auto kept = static_cast<double>(count_keys(sample.get(), size, cut.key).at_least);
    if (kept >= wanted / 1.5 && kept <= wanted * 1.5) return cut;
  }
  const std::int64_t sample_k = std::clamp<std::int64_t>(std::llround(wanted), 1, size);
  const Cut cut = kth_magnitude({{sample.get(), type, size}}, sample_k);
  if (cut.key == 0) return {1, 1, n};
  return {cut.key, cut.behind, cut.boundary < size ? element_at(parts, cut.boundary) : n};
}

}  // namespace subgrad
