// Which positions of a list of row numbers name the same row: found by hashing, in memory and time
// that grow with the list and not with the number of rows, without a sort or atomics.
//
// A hash deals the positions into buckets, stably, so that all positions of a row are in one bucket
// and in ascending order. A bucket is then linked on its own: a table of the rows seen so far says
// which position comes before each. Buckets share nothing, so they may be linked at the same time.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

namespace subgrad {

class Duplicates {
 public:
  // `rows` is kept by address. `buckets` and `chunks`, at least 1, say into how many parts the work
  // may be split; they change neither what is linked nor, for one bucket, the order of first
  // positions.
  Duplicates(const std::int64_t* rows, std::int64_t n, std::int64_t buckets, std::int64_t chunks);

  std::int64_t buckets() const { return buckets_; }
  std::int64_t chunks() const { return chunks_; }

  // The passes, in this order; those with an argument once for each value of it, in any order or at
  // the same time.
  void count(std::int64_t chunk);
  void place();
  void deal(std::int64_t chunk);
  void link(std::int64_t bucket);

  // After link(bucket): the first position of each row in the bucket.
  struct Positions {
    const std::int64_t* data;
    std::int64_t size;
  };
  Positions firsts(std::int64_t bucket) const {
    const auto b = static_cast<std::size_t>(bucket);
    return {order_.get() + starts_[b], distinct_[b]};
  }

  // The next position that names the same row, or -1.
  std::int64_t next(std::int64_t position) const { return next_[position]; }

 private:
  struct Place {
    std::uint64_t bucket, rest;
  };
  Place place_of(std::int64_t row) const;

  template <class Body>
  void each_of(std::int64_t chunk, const Body& body) const;

  const std::int64_t* rows_;
  std::int64_t n_, buckets_, chunks_;
  std::vector<std::int64_t> starts_;    // of the buckets in order_, and their end
  std::vector<std::int64_t> distinct_;  // rows, by bucket
  std::vector<std::int64_t> cursors_;   // by chunk and bucket: a count, then where to deal to
  // Uninitialised: positions by bucket, of which linking keeps the first ones; next_ by position;
  // tables of twice a bucket's size.
  std::unique_ptr<std::int64_t[]> order_, next_, table_;
};

}  // namespace subgrad
