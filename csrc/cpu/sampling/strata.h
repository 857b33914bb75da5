// Draws within classes, and batches by class.
#pragma once

#include <cstdint>
#include <utility>
#include <vector>

namespace subgrad {

// Rows sorted by class: class c has the places starts[c] to starts[c + 1] - 1.
class Strata {
 public:
  explicit Strata(std::vector<std::uint64_t> starts) : starts_(std::move(starts)) {}
  const std::vector<std::uint64_t>& starts() const { return starts_; }

  // The turns[i]-th row of class classes[i]: each class goes through an order of its rows, then
  // through the next order, and so on. Negative values are not allowed, nor are empty classes.
  void turns(std::uint64_t key, const std::int64_t* classes, const std::int64_t* turns,
             std::int64_t count, std::int64_t* out) const;

  // A row of class classes[i], with replacement: draw number start + i.
  void members(std::uint64_t key, std::uint64_t start, const std::int64_t* classes,
               std::int64_t count, std::int64_t* out) const;

  // Batches number first, first + 1, ...: `per_class` rows of each of their `per_batch` classes. No
  // row comes again before all of its class have come.
  void groups(std::uint64_t key, std::uint64_t first, const std::int64_t* classes,
              std::int64_t batches, std::int64_t per_batch, std::int64_t per_class,
              std::int64_t* out) const;

  // All rows in batches that have their shares of each class (spread.h), fewer than 2^32. The rows
  // of a class come in the order of `turns`, those of a batch in any.
  void spread(std::uint64_t key, std::uint64_t batch_key, std::uint64_t batch_size,
              std::int64_t* out) const;

 private:
  std::uint64_t size(std::uint64_t c) const { return starts_[c + 1] - starts_[c]; }
  std::vector<std::uint64_t> starts_;
};

// Positions start, start + 1, ... once those of each batch have been shuffled among each other.
void shuffle_batches(std::uint64_t key, std::int64_t batch_size, std::int64_t start,
                     std::int64_t count, std::int64_t* out);

// The classes of batches number first, first + 1, ...: `per_batch` different ones each.
void draw_groups(std::uint64_t key, std::int64_t classes, std::uint64_t first, std::int64_t batches,
                 std::int64_t per_batch, std::int64_t* out);

// The same, all classes once before any comes again: the first `count` classes of batch 0 and the
// following. All orders that have no class twice in a batch are equally likely in each round.
void go_round(std::uint64_t key, std::int64_t classes, std::int64_t per_batch, std::int64_t count,
              std::int64_t* out);

}  // namespace subgrad
