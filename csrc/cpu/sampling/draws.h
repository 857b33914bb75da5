// Uniform draws, and draws within classes.
#pragma once

#include <cstdint>
#include <vector>

namespace subgrad {

// Draws number start, start + 1, ... from [0, n), with replacement.
void uniform_draws(std::uint64_t key, std::uint64_t start, std::int64_t count, std::uint64_t n,
                   std::int64_t* out);

// The first k of an order of [0, n): k different indices in O(k).
void choose(std::uint64_t n, std::uint64_t key, std::uint64_t stream, std::int64_t k,
            std::int64_t* out);

// Rows sorted by class: class c has the places starts[c] to starts[c + 1] - 1, at least one.
class Strata {
 public:
  explicit Strata(std::vector<std::uint64_t> starts) : starts_(std::move(starts)) {}
  const std::vector<std::uint64_t>& starts() const { return starts_; }

  // The turns[i]-th row of class classes[i]: each class goes through an order of its rows, then
  // through the next order, and so on. Negative values are not allowed.
  void turns(std::uint64_t key, const std::int64_t* classes, const std::int64_t* turns,
             std::int64_t count, std::int64_t* out) const;

  // A row of class classes[i], with replacement: draw number start + i.
  void members(std::uint64_t key, std::uint64_t start, const std::int64_t* classes,
               std::int64_t count, std::int64_t* out) const;

  // Batches number first, first + 1, ...: `per_batch` different classes of those listed, and
  // `per_class` different rows of each. No listed class may have fewer rows.
  void groups(std::uint64_t key, const std::vector<std::int64_t>& listed, std::uint64_t first,
              std::int64_t batches, std::int64_t per_batch, std::int64_t per_class,
              std::int64_t* out) const;

 private:
  std::uint64_t size(std::uint64_t c) const { return starts_[c + 1] - starts_[c]; }
  std::vector<std::uint64_t> starts_;
};

}  // namespace subgrad
