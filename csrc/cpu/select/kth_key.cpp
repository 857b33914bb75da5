#include "cpu/select/kth_key.h"

#include <atomic>
#include <cmath>

#include "core/convert.h"
#include "cpu/kernel_table.h"
#include "cpu/support/large_array.h"
#include "rules/select.h"

namespace subgrad {
namespace {

// How many keys in [first, end) have which digit at `shift`.
std::vector<std::int64_t> digit_counts(std::vector<Block>& blocks, int threads, std::uint64_t first,
                                       std::uint64_t end, int shift) {
  std::vector<std::atomic<std::int64_t>> totals(kDigitBins);
  const KernelTable& table = kernels();
  // Long slots, since each clears its tables and adds them up; and enough of them to share. The
  // limit keeps a table's 32-bit counts from overflowing.
  constexpr std::size_t kMaxBlocks = (std::size_t{1} << 31) / kBlockElements;
  const std::size_t wanted = static_cast<std::size_t>(threads) * 4;
  const std::size_t per_slot =
      std::clamp<std::size_t>((blocks.size() + wanted - 1) / wanted, 1, kMaxBlocks);
  const auto slots = static_cast<std::int64_t>((blocks.size() + per_slot - 1) / per_slot);
  const auto work = static_cast<std::int64_t>(blocks.size()) * kBlockElements * 4;
  adaptive_for(threads, slots, work, [&](std::int64_t slot) {
    std::uint32_t bins[kDigitTables][kDigitBins] = {};
    const std::size_t from = static_cast<std::size_t>(slot) * per_slot;
    const std::size_t to = std::min(blocks.size(), from + per_slot);
    for (std::size_t i = from; i < to; ++i) {
      const Block& b = blocks[i];
      table.count_digits[static_cast<int>(b.dtype)](b.data, b.n, first, end, shift, bins);
    }
    for (std::size_t digit = 0; digit < kDigitBins; ++digit) {
      std::int64_t sum = 0;
      for (const auto& counts : bins) sum += counts[digit];
      if (sum != 0) totals[digit].fetch_add(sum, std::memory_order_relaxed);
    }
  });
  return {totals.begin(), totals.end()};
}

// One element in 128, in runs that fill a cache line of f32. Which run of its group is taken is
// hashed, so that no period in the data meets the sample's.
constexpr std::int64_t kSampleRun = 16, kSampleRuns = 128, kSampleGroup = kSampleRun * kSampleRuns;

std::int64_t sample_size(std::int64_t n) {
  return n / kSampleGroup * kSampleRun + n % kSampleGroup / kSampleRuns;
}

template <class T, class C>
void take_sample(const Block& b, C* out) {
  for (std::int64_t group = 0; group < b.n; group += kSampleGroup) {
    const std::int64_t left = std::min(b.n - group, kSampleGroup);
    const std::uint64_t hash =
        static_cast<std::uint64_t>(b.position + group + 1) * 0x9e3779b97f4a7c15u;
    const std::int64_t start =
        left == kSampleGroup ? static_cast<std::int64_t>(hash >> 57) * kSampleRun : 0;
    const std::int64_t run = left / kSampleRuns;
    for (std::int64_t i = 0; i < run; ++i) *out++ = widen<C>(b.element<T>(group + start + i));
  }
}

template <class C>
std::uint64_t sampled_key(const std::vector<Span>& spans, DType type, std::int64_t size,
                          std::int64_t rank) {
  const LargeArray<C> values = large_array<C>(static_cast<std::size_t>(size));
  std::vector<Block> blocks = blocks_of(spans);
  std::vector<std::int64_t> starts;
  starts.reserve(blocks.size());
  std::int64_t start = 0;
  for (const Block& b : blocks) {
    starts.push_back(start);
    start += sample_size(b.n);
  }
  each_block(threads_for(bytes_of(spans)), blocks, [&](std::size_t i, const Block& b) {
    with_element(b.dtype, [&](auto element) {
      take_sample<decltype(element)>(b, values.get() + starts[i]);
    });
  });
  return kth_key({{values.get(), type, size}}, rank);
}

}  // namespace

KthKey find_kth_key(const std::vector<Span>& spans, std::int64_t k,
                    const std::function<void(std::vector<std::int64_t>&)>& add_up) {
  std::vector<Block> blocks = blocks_of(spans);
  const int threads = threads_for(bytes_of(spans), kInnerBytesPerThread);
  const std::uint64_t nan = is_f64(spans) ? Keys<double>::nan : Keys<float>::nan;
  const std::uint64_t nothing = is_f64(spans) ? Keys<double>::nothing : Keys<float>::nothing;
  // What is known of the key: [key, end). The first digit has what the others leave of 31 or 63
  // bits.
  std::uint64_t key = 0, end = nothing;
  std::int64_t equal = 0;
  int shift = (is_f64(spans) ? 62 : 30) / kDigitBits * kDigitBits;
  for (; shift >= 0; shift -= kDigitBits) {
    std::vector<std::int64_t> counts = digit_counts(blocks, threads, key, end, shift);
    if (add_up) add_up(counts);
    std::size_t digit = kDigitBins - 1;
    for (; digit > 0 && k > counts[digit]; --digit) k -= counts[digit];
    key |= std::uint64_t{digit} << shift;
    end = key + (std::uint64_t{1} << shift);
    if (end > nan) end = nothing;
    equal = counts[digit];
  }
  return {key, k, equal};
}

std::uint64_t kth_key(const std::vector<Span>& spans, std::int64_t k) {
  return find_kth_key(spans, k, {}).key;
}

std::optional<std::uint64_t> sampled_bound(const std::vector<Span>& spans, std::int64_t k) {
  // Where less is kept the second pass over all elements is spared, if they are many.
  constexpr std::int64_t kMinElements = 64 << 10, kMaxShare = 8;
  const std::int64_t n = elements(spans);
  if (n < kMinElements || k > n / kMaxShare) return std::nullopt;
  std::int64_t size = 0;
  for (const Span& s : spans) {
    size += s.n / kBlockElements * sample_size(kBlockElements) + sample_size(s.n % kBlockElements);
  }
  // Eight standard deviations, as neighbours resemble each other and the sample takes runs.
  const double expected =
      static_cast<double>(k) * static_cast<double>(size) / static_cast<double>(n);
  const auto rank = static_cast<std::int64_t>(expected + 8.0 * std::sqrt(expected) + 16.0);
  if (rank > size) return std::nullopt;
  return is_f64(spans) ? sampled_key<double>(spans, DType::f64, size, rank)
                       : sampled_key<float>(spans, DType::f32, size, rank);
}

}  // namespace subgrad
