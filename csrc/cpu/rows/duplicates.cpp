#include "cpu/rows/duplicates.h"

#include <algorithm>

#include "core/bits.h"

namespace subgrad {
namespace {

constexpr std::int64_t kNone = -1;

std::unique_ptr<std::int64_t[]> uninitialised(std::int64_t n) {
  return std::unique_ptr<std::int64_t[]>(new std::int64_t[static_cast<std::size_t>(n)]);
}

// Two rounds of multiplication: the upper bits, which are the ones used, depend on every bit of the
// row, and rows at equal distances don't fall together.
std::uint64_t hash(std::int64_t row) {
  auto h = static_cast<std::uint64_t>(row) * 0x9e3779b97f4a7c15u;
  h ^= h >> 32;
  return h * 0xd6e8feb86659fd93u;
}

}  // namespace

Duplicates::Duplicates(const std::int64_t* rows, std::int64_t n, std::int64_t buckets,
                       std::int64_t chunks)
    : rows_(rows),
      n_(n),
      buckets_(buckets),
      chunks_(chunks),
      starts_(static_cast<std::size_t>(buckets + 1)),
      distinct_(static_cast<std::size_t>(buckets)),
      cursors_(static_cast<std::size_t>(buckets * chunks)),
      order_(uninitialised(n)),
      next_(uninitialised(n)),
      table_(uninitialised(2 * n)) {}

// The hash as a number in [0, 1): its leading digit to the base `buckets` is the bucket, what
// follows is as random and places the row in the bucket's table.
Duplicates::Place Duplicates::place_of(std::int64_t row) const {
  const Product p = mul_wide(hash(row), static_cast<std::uint64_t>(buckets_));
  return {p.high, p.low};
}

template <class Body>
void Duplicates::each_of(std::int64_t chunk, const Body& body) const {
  const std::int64_t size = (n_ + chunks_ - 1) / chunks_;
  const std::int64_t end = std::min(n_, (chunk + 1) * size);
  for (std::int64_t i = chunk * size; i < end; ++i) body(i, place_of(rows_[i]).bucket);
}

void Duplicates::count(std::int64_t chunk) {
  std::int64_t* counts = cursors_.data() + chunk * buckets_;
  each_of(chunk, [=](std::int64_t, std::uint64_t bucket) { ++counts[bucket]; });
}

void Duplicates::place() {
  std::int64_t at = 0;
  for (std::int64_t bucket = 0; bucket < buckets_; ++bucket) {
    starts_[static_cast<std::size_t>(bucket)] = at;
    for (std::int64_t chunk = 0; chunk < chunks_; ++chunk) {
      std::int64_t& cursor = cursors_[static_cast<std::size_t>(chunk * buckets_ + bucket)];
      const std::int64_t count = cursor;
      cursor = at;
      at += count;
    }
  }
  starts_.back() = at;
}

void Duplicates::deal(std::int64_t chunk) {
  std::int64_t* cursors = cursors_.data() + chunk * buckets_;
  std::int64_t* order = order_.get();
  each_of(chunk, [=](std::int64_t i, std::uint64_t bucket) { order[cursors[bucket]++] = i; });
}

void Duplicates::link(std::int64_t bucket) {
  const auto b = static_cast<std::size_t>(bucket);
  std::int64_t* order = order_.get() + starts_[b];
  const std::int64_t n = starts_[b + 1] - starts_[b];
  const auto table_size = static_cast<std::uint64_t>(2 * n);
  std::int64_t* table = table_.get() + 2 * starts_[b];
  std::fill_n(table, table_size, kNone);
  std::int64_t distinct = 0;
  for (std::int64_t j = 0; j < n; ++j) {
    const std::int64_t i = order[j], row = rows_[i];
    std::uint64_t slot = mul_wide(place_of(row).rest, table_size).high;
    while (table[slot] != kNone && rows_[table[slot]] != row) {
      if (++slot == table_size) slot = 0;
    }
    // Whether a row is new is anybody's guess, the processor's too: both ways are written without
    // a branch. A first position is noted either way, and next_[i] ends the chain in any case.
    const std::int64_t last = table[slot];
    const bool is_first = last == kNone;
    order[distinct] = i;
    distinct += is_first ? 1 : 0;
    next_[is_first ? i : last] = i;
    next_[i] = kNone;
    table[slot] = i;
  }
  distinct_[b] = distinct;
}

}  // namespace subgrad
