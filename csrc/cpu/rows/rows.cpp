#include "cpu/rows/rows.h"

#include <algorithm>
#include <cstring>

#include "cpu/clip/blocks.h"
#include "cpu/rows/history.h"
#include "cpu/rows/stepper.h"
#include "cpu/support/regions.h"

namespace subgrad {
namespace {

// What a row costs beside its bytes, in bytes: finding it, calls, prologues and tails.
constexpr std::int64_t kRowBytes = 64;

// Below this many bytes a thread, a parallel region costs more than it saves.
constexpr std::int64_t kBytesPerThread = 128 << 10;

// Row numbers are dealt into buckets of about this many, so that the table of a bucket's rows is
// cached; and into more buckets than threads, unless those get too small, for balance: one row may
// have many gradients. No more than that: within a bucket the values are met in ascending order,
// as far as rows are not named twice.
constexpr std::int64_t kBucketNumbers = 8 << 10, kMaxBuckets = 1024;
constexpr std::int64_t kBucketsPerThread = 4, kMinBucketBytes = 64 << 10;

// Below this many row numbers a thread, dealing them costs less than a parallel region.
constexpr std::int64_t kDealt = 64 << 10;

// Rows of this many elements are shared among threads one by one.
constexpr std::int64_t kLongRow = 64 << 10;

std::int64_t work_bytes(const RowSegment& s) {
  return s.n * (bytes_of(s.value_type, s.length) + 2 * touched_bytes(s) + kRowBytes);
}

bool is_shared(const RowSegment& s) { return s.length >= kLongRow; }

std::int64_t buckets_for(const RowSegment& s, int threads) {
  if (is_shared(s)) return 1;
  const std::int64_t balance = threads == 1 ? 1 : threads * kBucketsPerThread;
  return std::clamp<std::int64_t>(
      std::max(s.n / kBucketNumbers, std::min(work_bytes(s) / kMinBucketBytes, balance)), 1,
      kMaxBuckets);
}

int threads_for(std::int64_t shares) {
  return static_cast<int>(std::clamp<std::int64_t>(shares, 1, num_threads()));
}

}  // namespace

RowWork::RowWork(const std::vector<RowSegment>& segments, const SgdParams& params)
    : segments_(segments), params_(params) {
  std::int64_t total = 0, numbers = 0;
  for (const RowSegment& s : segments) {
    total += work_bytes(s);
    numbers += s.n;
    if (is_shared(s)) longest_ = std::max(longest_, s.length);
  }
  work_ = total;
  threads_ = threads_for(total / kBytesPerThread);
  dealing_threads_ = threads_for(numbers / kDealt);
  duplicates_.reserve(segments.size());  // their addresses are kept
  for (std::size_t i = 0; i < segments.size(); ++i) {
    const RowSegment& s = segments[i];
    duplicates_.emplace_back(s.rows, s.n, buckets_for(s, threads_), dealing_threads_);
    steppers_.emplace_back(s, params, duplicates_[i]);
    for (std::int64_t c = 0; c < duplicates_[i].chunks(); ++c) chunks_.push_back({i, c});
    for (std::int64_t b = 0; b < duplicates_[i].buckets(); ++b) buckets_.push_back({i, b});
  }
}

RowWork::~RowWork() = default;

template <class Body>
void RowWork::for_all(int threads, const std::vector<Slot>& slots, const Body& body) {
  adaptive_for(threads, static_cast<std::int64_t>(slots.size()), work_, [&](std::int64_t slot) {
    const Slot& s = slots[static_cast<std::size_t>(slot)];
    body(s.segment, s.part);
  });
}

// Finds the duplicates, if that has not been done, and calls then(segment, bucket) for each bucket.
template <class Then>
void RowWork::link(const Then& then) {
  if (linked_) return for_all(threads_, buckets_, then);
  for_all(dealing_threads_, chunks_,
          [&](std::size_t i, std::int64_t chunk) { duplicates_[i].count(chunk); });
  for (Duplicates& d : duplicates_) d.place();
  for_all(dealing_threads_, chunks_,
          [&](std::size_t i, std::int64_t chunk) { duplicates_[i].deal(chunk); });
  for_all(threads_, buckets_, [&](std::size_t i, std::int64_t bucket) {
    duplicates_[i].link(bucket);
    then(i, bucket);
  });
  linked_ = true;
}

// What visit(i, data, n, dtype) gives for each block of each row's sum, at the position that is the
// first to name the row: an order that no number of buckets changes. 0 at the other positions.
template <class Visit>
Recycled<double> RowWork::by_block(const Visit& visit) {
  std::vector<std::size_t> offsets;
  std::size_t size = 0;
  for (std::size_t i = 0; i < segments_.size(); ++i) {
    offsets.push_back(size);
    size += static_cast<std::size_t>(segments_[i].n * steppers_[i].blocks());
  }
  Recycled<double> found(size);
  const auto look = [&](std::size_t i, std::int64_t position, std::int64_t block) {
    const auto slot = static_cast<std::size_t>(position * steppers_[i].blocks() + block);
    found[offsets[i] + slot] = steppers_[i].of_block(
        position, block,
        [&](const char* data, std::int64_t n, DType t) { return visit(i, data, n, t); });
  };
  link([&](std::size_t i, std::int64_t bucket) {
    if (is_shared(segments_[i])) return;
    const auto [firsts, n] = duplicates_[i].firsts(bucket);
    for (std::int64_t j = 0; j < n; ++j) {
      for (std::int64_t b = 0; b < steppers_[i].blocks(); ++b) look(i, firsts[j], b);
    }
  });
  for (std::size_t i = 0; i < segments_.size(); ++i) {
    if (!is_shared(segments_[i])) continue;
    const auto [firsts, n] = duplicates_[i].firsts(0);
    const std::int64_t blocks = steppers_[i].blocks();
    const std::int64_t* const first = firsts;
    adaptive_for(threads_, n * blocks, work_,
                 [&](std::int64_t slot) { look(i, first[slot / blocks], slot % blocks); });
  }
  return found;
}

SquareSums RowWork::square_sums() {
  return add_squares(
      segments_.size(),
      [&](std::size_t i) {
        return InBlocks{segments_[i].value_type, segments_[i].n * steppers_[i].blocks()};
      },
      [&](const auto& visit) { return by_block(visit); });
}

void RowWork::run(const Stages& stages) {
  for (std::size_t i = 0; i < stages.size(); ++i) steppers_[i].set_stage(stages[i]);
  std::vector<double> sum(static_cast<std::size_t>(longest_));
  for (std::size_t i = 0; i < segments_.size(); ++i) {
    const RowSegment& s = segments_[i];
    const double scale = stages.empty() ? 1.0 : stages[i].scale;
    if (s.history != nullptr) s.history->begin_step(params_, s.first, scale);
  }
  link([&](std::size_t i, std::int64_t bucket) {
    if (!is_shared(segments_[i])) steppers_[i].step(bucket);
  });
  for (std::size_t i = 0; i < segments_.size(); ++i) {
    if (!is_shared(segments_[i])) continue;
    const auto [firsts, n] = duplicates_[i].firsts(0);
    for (std::int64_t j = 0; j < n; ++j) steppers_[i].step_shared(firsts[j], sum.data());
  }
  for (const RowSegment& s : segments_) {
    if (s.history != nullptr) s.history->end_step(memory_of(s));
  }
}

void clear_rows(char* rows, std::int64_t stride, std::int64_t count, std::int64_t row_bytes) {
  if (stride == row_bytes) {  // one run
    row_bytes *= count;
    count = count > 0 ? 1 : 0;
  }
  for (std::int64_t row = 0; row < count; ++row) {
    std::memset(rows + row * stride, 0, static_cast<std::size_t>(row_bytes));
  }
}

}  // namespace subgrad
