#include "cpu/select/peers.h"

#include <atomic>

#include "core/convert.h"
#include "cpu/select/kth_key.h"
#include "rules/select.h"

namespace subgrad {
namespace {

// Spans of which only those that count here have elements.
std::vector<Span> counted_spans(const std::vector<Span>& spans, const Peers& peers) {
  std::vector<Span> counted = spans;
  for (std::size_t i = 0; i < spans.size(); ++i) {
    if (!peers.parts[i].counted) counted[i].n = 0;
  }
  return counted;
}

// Calls visit(position) for each element of a block that has this key.
template <class Visit>
void each_equal(const Block& b, const Peers::Part& part, std::uint64_t key, const Visit& visit) {
  with_element(b.dtype, [&](auto element) {
    using T = decltype(element);
    for (std::int64_t i = 0; i < b.n; ++i) {
      const auto x = widen<compute_t<T>>(b.element<T>(i));
      if (magnitude_key(x) == key) visit(part.position(b.begin + i));
    }
  });
}

// The position of the `rank`-th (from 1) of the elements with this key, digit by digit.
std::int64_t position_of_equal(const std::vector<Span>& counted, std::uint64_t key,
                               std::int64_t rank, const Peers& peers) {
  std::vector<Block> blocks = blocks_of(counted);
  int shift = 0;
  while (((peers.elements - 1) >> shift >> kDigitBits) != 0) shift += kDigitBits;
  std::int64_t first = 0;
  for (; shift >= 0; shift -= kDigitBits) {
    std::vector<std::atomic<std::int64_t>> bins(kDigitBins);
    each_block(threads_for(bytes_of(counted)), blocks, [&](std::size_t, const Block& b) {
      each_equal(b, peers.parts[b.span], key, [&](std::int64_t position) {
        const std::int64_t digit = (position - first) >> shift;
        if (digit >= 0 && digit < std::int64_t{kDigitBins}) {
          bins[static_cast<std::size_t>(digit)].fetch_add(1, std::memory_order_relaxed);
        }
      });
    });
    std::vector<std::int64_t> counts(bins.begin(), bins.end());
    peers.add_up(counts);
    std::size_t digit = 0;
    for (; digit + 1 < counts.size() && rank > counts[digit]; ++digit) rank -= counts[digit];
    first += static_cast<std::int64_t>(digit) << shift;
  }
  return first;
}

// How many elements of a span lie before a position.
std::int64_t before(const Peers::Part& part, std::int64_t n, std::int64_t position) {
  std::int64_t low = 0, high = n;
  while (low < high) {
    const std::int64_t middle = low + (high - low) / 2;
    if (part.position(middle) < position) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  return low;
}

}  // namespace

std::int64_t Peers::Part::position(std::int64_t element) const {
  std::int64_t position = offset;
  for (std::size_t d = steps.size(); d-- > 0;) {
    const auto size = static_cast<std::int64_t>(steps[d].size());
    position += steps[d][static_cast<std::size_t>(element % size)];
    element /= size;
  }
  return position;
}

Cut kth_magnitude(const std::vector<Span>& spans, std::int64_t k, const Peers& peers) {
  if (k == 0) return kth_magnitude(spans, 0);
  const std::vector<Span> counted = counted_spans(spans, peers);
  const KthKey found = find_kth_key(counted, k, peers.add_up);
  Cut cut = cut_at(found.key, elements(spans), is_f64(spans));
  if (found.rank < found.equal) {
    const std::int64_t last = position_of_equal(counted, found.key, found.rank, peers);
    cut.boundary = 0;
    for (std::size_t i = 0; i < spans.size(); ++i) {
      cut.boundary += before(peers.parts[i], spans[i].n, last + 1);
    }
  }
  return cut;
}

}  // namespace subgrad
