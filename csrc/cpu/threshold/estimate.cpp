#include "cpu/threshold/estimate.h"

#include <algorithm>
#include <cmath>

#include "core/philox.h"
#include "cpu/support/regions.h"

namespace subgrad {
namespace {

constexpr std::int64_t kMinSample = 64 << 10;  // elements
constexpr std::int64_t kOneLineIn = 64;        // at the sparsest
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

// Some groups of one tensor, and where in the sample they go.
struct Part {
  const ChunkedTensor* tensor;
  Lines lines;
  std::int64_t first_group, groups;
  std::int64_t position;
};

}  // namespace

Cut estimated_cut(const std::vector<const ChunkedTensor*>& tensors, std::int64_t n,
                  std::int64_t k) {
  const std::int64_t every = std::clamp<std::int64_t>(n / kMinSample, 1, kOneLineIn);
  std::vector<Part> parts;
  std::int64_t size = 0;
  for (const ChunkedTensor* tensor : tensors) {
    const Lines lines{tensor->tensor().n, every};
    for (std::int64_t group = 0; group < lines.groups(); group += kLinesPerPart) {
      parts.push_back({tensor, lines, group, std::min(kLinesPerPart, lines.groups() - group),
                       size + group * kThresholdLine});
    }
    size += lines.sampled();
  }
  const DType type = tensors.empty() ? DType::f32 : tensors.front()->type();
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
  const double share = static_cast<double>(k) / static_cast<double>(n);
  const std::int64_t sample_k =
      k == 0 ? 0
             : std::clamp<std::int64_t>(std::llround(share * static_cast<double>(size)), 1, size);
  const Cut cut = kth_magnitude({{sample.get(), type, size}}, sample_k);
  const std::uint64_t key = std::max<std::uint64_t>(cut.key, 1);
  return {key, key, n};  // ties are kept, all of them
}

}  // namespace subgrad
