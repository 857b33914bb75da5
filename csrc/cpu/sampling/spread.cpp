// The shares are a table, a row for each batch and a column for each class, whose numbers are
// rounded up or down so that all rows and columns keep their sums: random and unbiased as in Cox,
// "A constructive procedure for unbiased controlled rounding" (1987).
//
// The last batch, if it is smaller than the others, is rounded first. The others have the same
// shares, so each gets the whole part of them, and what is left of class c, e(c) rows, goes to e(c)
// of the K batches. Whichever way the last batch was rounded, 0 <= e(c) <= K: of a share of f more
// than its whole part in the K batches and of g more in the last one, K f + g is an integer, hence
// below K + 1, and above 0 unless f = g = 0.
//
// Which batches get a row more is decided by halves: the first half of the batches gets its part of
// every e(c), rounded, and the second half the rest, until halves are single batches. With e(c) of
// K the part of K' batches is e(c) K' / K: rounded up it is at most K', rounded down it leaves at
// most K - K'. So no batch ever gets two, and all that is done costs O(rows * log(batches)).
//
// All of it is in integers: the classes are the same on every machine.
#include "cpu/sampling/spread.h"

#include <algorithm>

#include "cpu/sampling/words.h"

namespace subgrad {
namespace {

// A class of which so many batches get a row more.
struct Extra {
  std::uint32_t c, batches;
};

// Two parts of `extra`: the first `whole` batches, or one more with a probability of rest / K.
struct Division {
  Extra extra;
  std::uint32_t whole;
  std::uint64_t rest;
};

// Calls up(division) for as many as the rests, each below K, add up to in K: for each of them with
// a probability of exactly rest / K. Systematic sampling (Madow, 1949) in a random order.
template <class Up>
void round_at_random(std::vector<Division>& divisions, std::uint64_t k, WordStream& words,
                     const Up& up) {
  if (divisions.empty()) return;
  for (std::size_t i = divisions.size(); i > 1; --i) {
    std::swap(divisions[i - 1], divisions[words.below(i)]);
  }
  std::uint64_t sum = words.below(k);
  for (Division& division : divisions) {
    sum += division.rest;
    if (sum < k) continue;
    sum -= k;
    up(division);
  }
}

class Spread {
 public:
  Spread(std::uint64_t per_batch, std::uint32_t* out, std::uint64_t stride, WordStream& words)
      : per_batch_(per_batch), out_(out), stride_(stride), words_(words) {}

  // Writes the extra classes of batches number first to first + k - 1.
  void divide(const std::vector<Extra>& extras, std::uint64_t first, std::uint64_t k) {
    if (k == 1) {
      std::uint32_t* end = out_ + first * stride_;
      for (const Extra& extra : extras) *end++ = extra.c;
      return;
    }
    const std::uint64_t half = k / 2;
    std::vector<Extra> parts[2];
    parts[0].reserve(std::min<std::uint64_t>(extras.size(), per_batch_ * half));
    parts[1].reserve(std::min<std::uint64_t>(extras.size(), per_batch_ * (k - half)));
    const auto give = [&](const Extra& extra, std::uint32_t batches) {
      if (batches > 0) parts[0].push_back({extra.c, batches});
      if (batches < extra.batches) parts[1].push_back({extra.c, extra.batches - batches});
    };
    divisions_.clear();
    for (const Extra& extra : extras) {
      const std::uint64_t product = extra.batches * half;
      const auto whole = static_cast<std::uint32_t>(product / k);
      const std::uint64_t rest = product % k;
      if (rest == 0) {
        give(extra, whole);
      } else {
        divisions_.push_back({extra, whole, rest});
      }
    }
    round_at_random(divisions_, k, words_, [](Division& division) { ++division.whole; });
    for (const Division& division : divisions_) give(division.extra, division.whole);
    divide(parts[0], first, half);
    divide(parts[1], first + half, k - half);
  }

 private:
  std::uint64_t per_batch_;
  std::uint32_t* out_;
  std::uint64_t stride_;
  WordStream& words_;
  std::vector<Division> divisions_;
};

}  // namespace

std::vector<std::uint32_t> spread_classes(const std::vector<std::uint64_t>& counts,
                                          std::uint64_t batch_size, std::uint64_t key) {
  std::uint64_t n = 0;
  for (const std::uint64_t count : counts) n += count;
  const std::uint64_t k = n / batch_size, last = n % batch_size;
  WordStream words(key);

  // The last batch.
  std::vector<std::uint32_t> in_last(counts.size());
  std::vector<Division> divisions;
  for (std::size_t c = 0; c < counts.size(); ++c) {
    const std::uint64_t product = counts[c] * last;
    in_last[c] = static_cast<std::uint32_t>(product / n);
    const Extra all{static_cast<std::uint32_t>(c), 0};
    if (product % n != 0) divisions.push_back({all, 0, product % n});
  }
  round_at_random(divisions, n, words, [&](const Division& one) { ++in_last[one.extra.c]; });

  std::vector<std::uint32_t> classes(n);
  std::uint32_t* end = classes.data() + k * batch_size;
  for (std::size_t c = 0; c < counts.size(); ++c) {
    end = std::fill_n(end, in_last[c], static_cast<std::uint32_t>(c));
  }
  if (k == 0) return classes;

  // What every other batch has, and the extras.
  std::vector<std::uint32_t> in_all;
  std::vector<Extra> extras;
  for (std::size_t c = 0; c < counts.size(); ++c) {
    const std::uint64_t whole = counts[c] * batch_size / n;
    in_all.insert(in_all.end(), whole, static_cast<std::uint32_t>(c));
    const std::uint64_t left = counts[c] - in_last[c] - k * whole;
    if (left > 0)
      extras.push_back({static_cast<std::uint32_t>(c), static_cast<std::uint32_t>(left)});
  }
  for (std::uint64_t b = 0; b < k; ++b) {
    std::copy(in_all.begin(), in_all.end(), classes.data() + b * batch_size);
  }
  if (!extras.empty()) {
    Spread(batch_size - in_all.size(), classes.data() + in_all.size(), batch_size, words)
        .divide(extras, 0, k);
  }
  return classes;
}

}  // namespace subgrad
