#include "cpu/sampling/strata.h"

#include <algorithm>
#include <numeric>

#include "cpu/sampling/draws.h"
#include "cpu/sampling/spread.h"
#include "cpu/sampling/words.h"

namespace subgrad {
namespace {

// The stream of the rows drawn within a class, beside that of the classes.
constexpr std::uint32_t kMemberStream = 1;

// The keys of a batch of groups: of its classes, and of their rows.
Words group_keys(std::uint64_t key, std::uint64_t batch) { return philox_words(key, batch, 0); }

}  // namespace

void Strata::turns(std::uint64_t key, const std::int64_t* classes, const std::int64_t* turns,
                   std::int64_t count, std::int64_t* out) const {
  constexpr std::uint64_t none = ~std::uint64_t{0};
  struct Current {
    std::uint64_t round = none;
    Permutation order;
  };
  std::vector<std::int32_t> where(starts_.size(), -1);
  std::vector<Current> current;
  for (std::int64_t i = 0; i < count; ++i) {
    const auto c = static_cast<std::uint64_t>(classes[i]);
    const auto turn = static_cast<std::uint64_t>(turns[i]);
    if (where[c] < 0) {
      where[c] = static_cast<std::int32_t>(current.size());
      current.emplace_back();
    }
    Current& now = current[static_cast<std::size_t>(where[c])];
    const std::uint64_t round = turn / size(c);
    if (now.round != round) {
      now.round = round;
      now.order = make_permutation(size(c), key, c | round << 32);
    }
    out[i] = static_cast<std::int64_t>(starts_[c] + permute(now.order, turn - round * size(c)));
  }
}

void Strata::members(std::uint64_t key, std::uint64_t start, const std::int64_t* classes,
                     std::int64_t count, std::int64_t* out) const {
  each_batch(key, kMemberStream, start, count,
             [&](std::int64_t i, const std::uint64_t* words, std::int64_t batch) {
               for (std::int64_t j = 0; j < batch; ++j) {
                 const auto c = static_cast<std::uint64_t>(classes[i + j]);
                 std::uint64_t row;
                 if (!bounded(words[j], size(c), row)) {
                   row = bounded_draw(key, start + static_cast<std::uint64_t>(i + j), size(c),
                                      kMemberStream, 1);
                 }
                 out[i + j] = static_cast<std::int64_t>(starts_[c] + row);
               }
             });
}

void Strata::groups(std::uint64_t key, std::uint64_t first, const std::int64_t* classes,
                    std::int64_t batches, std::int64_t per_batch, std::int64_t per_class,
                    std::int64_t* out) const {
  for (std::int64_t b = 0; b < batches; ++b) {
    const std::uint64_t rows_key = group_keys(key, first + static_cast<std::uint64_t>(b)).second;
    for (std::int64_t i = 0; i < per_batch; ++i) {
      const auto c = static_cast<std::uint64_t>(*classes++);
      const auto rows = static_cast<std::int64_t>(size(c));
      for (std::int64_t done = 0; done < per_class; done += rows) {
        const auto round = static_cast<std::uint64_t>(done / rows);
        const std::int64_t count = std::min(rows, per_class - done);
        choose(size(c), rows_key, c | round << 32, count, out);
        for (std::int64_t j = 0; j < count; ++j) *out++ += static_cast<std::int64_t>(starts_[c]);
      }
    }
  }
}

void Strata::spread(std::uint64_t key, std::uint64_t batch_key, std::uint64_t batch_size,
                    std::int64_t* out) const {
  // The order of every class, where its rows are.
  const std::uint64_t n = starts_.back();
  std::vector<std::int64_t> orders(n), next(starts_.begin(), starts_.end());
  std::vector<std::uint64_t> counts(starts_.size() - 1);
  for (std::uint64_t c = 0; c < counts.size(); ++c) {
    counts[c] = size(c);
    if (counts[c] == 0) continue;
    std::int64_t* order = orders.data() + starts_[c];
    choose(counts[c], key, c, static_cast<std::int64_t>(counts[c]), order);
    for (std::uint64_t i = 0; i < counts[c]; ++i) order[i] += next[c];
  }
  const std::vector<std::uint32_t> classes = spread_classes(counts, batch_size, batch_key);
  std::vector<std::int64_t> places(std::min(batch_size, n));
  for (std::uint64_t begin = 0; begin < n; begin += batch_size) {
    const std::uint64_t rows = std::min(batch_size, n - begin);
    choose(rows, batch_key, begin / batch_size, static_cast<std::int64_t>(rows), places.data());
    for (std::uint64_t i = 0; i < rows; ++i) {
      std::int64_t& place = next[classes[begin + static_cast<std::uint64_t>(places[i])]];
      out[begin + i] = orders[static_cast<std::size_t>(place++)];
    }
  }
}

void shuffle_batches(std::uint64_t key, std::int64_t batch_size, std::int64_t start,
                     std::int64_t count, std::int64_t* out) {
  const PermuteKernel permute_many = kernels().permute;
  for (std::int64_t i = 0; i < count;) {
    const std::int64_t batch = (start + i) / batch_size, begin = batch * batch_size - start;
    const std::int64_t end = std::min(count, begin + batch_size);
    std::iota(out + i, out + end, i - begin);
    permute_many(make_permutation(static_cast<std::uint64_t>(batch_size), key,
                                  static_cast<std::uint64_t>(batch)),
                 reinterpret_cast<std::uint64_t*>(out + i), end - i);
    for (; i < end; ++i) out[i] += start + begin;
  }
}

void draw_groups(std::uint64_t key, std::int64_t classes, std::uint64_t first, std::int64_t batches,
                 std::int64_t per_batch, std::int64_t* out) {
  for (std::int64_t b = 0; b < batches; ++b, out += per_batch) {
    const std::uint64_t classes_key = group_keys(key, first + static_cast<std::uint64_t>(b)).first;
    choose(static_cast<std::uint64_t>(classes), classes_key, 0, per_batch, out);
  }
}

void go_round(std::uint64_t key, std::int64_t classes, std::int64_t per_batch, std::int64_t count,
              std::int64_t* out) {
  std::vector<std::int64_t> order(static_cast<std::size_t>(classes));
  std::iota(order.begin(), order.end(), std::int64_t{0});
  WordStream words(key);
  for (std::int64_t begin = 0; begin < count; begin += classes) {
    // The batch in which this round begins has the last `before` of the round before, which stand
    // at the end of `order`: its other places are drawn from the rest.
    const std::int64_t before = begin % per_batch;
    const std::int64_t others = before == 0 ? 0 : per_batch - before;
    for (std::int64_t i = 0; i < classes; ++i) {
      const std::int64_t left = (i < others ? classes - before : classes) - i;
      std::swap(order[static_cast<std::size_t>(i)],
                order[static_cast<std::size_t>(i) + words.below(static_cast<std::uint64_t>(left))]);
    }
    out = std::copy_n(order.begin(), std::min(classes, count - begin), out);
  }
}

}  // namespace subgrad
