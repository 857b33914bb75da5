#include "cpu/sampling/distinct.h"

#include <algorithm>
#include <vector>

#include "cpu/sampling/words.h"

namespace subgrad {
namespace {

// The stream of the race in the key of a draw (the draws themselves use stream 0).
constexpr std::uint32_t kRaceStream = 1;

struct Arrival {
  std::uint64_t time;
  std::int64_t index;
  bool operator<(const Arrival& other) const {
    return time < other.time || (time == other.time && index < other.index);
  }
};

// The indices seen so far: open addressing, at most half full.
class SeenSet {
 public:
  explicit SeenSet(std::int64_t k) {
    std::size_t size = 16;
    while (size < 2 * static_cast<std::size_t>(k)) size *= 2;
    slots_.assign(size, -1);
  }
  bool insert(std::int64_t index) {
    // Fibonacci hashing; the upper half of the product is the mixed one.
    std::size_t at = (static_cast<std::uint64_t>(index) * 0x9E3779B97F4A7C15u) >> 32;
    for (;; ++at) {
      std::int64_t& slot = slots_[at & (slots_.size() - 1)];
      if (slot == index) return false;
      if (slot < 0) {
        slot = index;
        return true;
      }
    }
  }

 private:
  std::vector<std::int64_t> slots_;
};

// The race among all positive weights but those in `excluded`.
void race(const double* weights, std::int64_t n, const std::vector<std::int64_t>& excluded,
          std::uint64_t key, std::int64_t k, std::int64_t* out) {
  if (k == 0) return;
  std::vector<Arrival> arrivals(static_cast<std::size_t>(n));
  each_batch(
      key, kRaceStream, 0, n, [&](std::int64_t i, const std::uint64_t* words, std::int64_t size) {
        for (std::int64_t j = 0; j < size; ++j) {
          const double weight = weights[i + j];
          const std::int64_t index = weight > 0.0 ? i + j : -1;
          arrivals[static_cast<std::size_t>(i + j)] = {arrival_time(words[j], weight), index};
        }
      });
  for (const std::int64_t index : excluded) arrivals[static_cast<std::size_t>(index)].index = -1;
  const auto runs = [](const Arrival& a) { return a.index >= 0; };
  const auto end = std::partition(arrivals.begin(), arrivals.end(), runs);
  const auto last = arrivals.begin() + k;
  if (last < end) std::nth_element(arrivals.begin(), last, end);
  std::sort(arrivals.begin(), last);
  for (std::int64_t i = 0; i < k; ++i) out[i] = arrivals[static_cast<std::size_t>(i)].index;
}

template <class Picker>
void distinct(const Picker& picker, const double* weights, std::int64_t n, std::uint64_t key,
              std::int64_t k, std::int64_t* out) {
  constexpr std::int64_t batch = 128;
  SeenSet seen(k);
  std::int64_t found = 0;
  const std::int64_t most = 4 * k + batch;  // draws before the race takes over
  std::int64_t picks[batch];
  for (std::int64_t draw = 0; found < k && draw < most; draw += batch) {
    const std::int64_t size = std::min(batch, std::max<std::int64_t>(k - found + 8, 16));
    picker.draw(key, static_cast<std::uint64_t>(draw), size, picks);
    for (std::int64_t i = 0; i < size && found < k; ++i) {
      if (seen.insert(picks[i])) out[found++] = picks[i];
    }
  }
  if (found == k) return;
  std::vector<std::int64_t> excluded(out, out + found);
  race(weights, n, excluded, key, k - found, out + found);
}

}  // namespace

void weighted_order(const double* weights, std::int64_t n, std::uint64_t key, std::int64_t k,
                    std::int64_t* out) {
  race(weights, n, {}, key, k, out);
}

void distinct_draws(const AliasTable& table, const double* weights, std::int64_t n,
                    std::uint64_t key, std::int64_t k, std::int64_t* out) {
  distinct(table, weights, n, key, k, out);
}

void distinct_draws(const SumTree& tree, const double* weights, std::int64_t n, std::uint64_t key,
                    std::int64_t k, std::int64_t* out) {
  distinct(tree, weights, n, key, k, out);
}

}  // namespace subgrad
