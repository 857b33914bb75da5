#include "cpu/rows/rows.h"

#include <algorithm>
#include <cstring>

#include "cpu/dense/dense.h"
#include "cpu/kernel_table.h"
#include "cpu/rows/duplicates.h"
#include "cpu/support/hints.h"
#include "cpu/support/parallel.h"

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

// Gradients of one row are added up in blocks of this many elements, which stay in the first cache.
constexpr std::int64_t kSumElements = 1024;

constexpr std::int64_t bytes_of(DType t, std::int64_t elements) {
  return elements * static_cast<std::int64_t>(size_of(t));
}

constexpr DType compute_type(DType t) { return t == DType::f64 ? DType::f64 : DType::f32; }

// The step without momentum or decay and with this rate is w = fma(1, g, w): an addition.
constexpr SgdParams addition() {
  SgdParams p;
  p.lr = -1.0;
  return p;
}
constexpr SgdParams kAdd = addition();

// -0.0 is what adding changes nothing of, the signs of zeros included.
void set_to_nothing(void* sum, DType type, std::int64_t n) {
  if (type == DType::f64) {
    std::fill_n(static_cast<double*>(sum), n, -0.0);
  } else {
    std::fill_n(static_cast<float*>(sum), n, -0.0f);
  }
}

// By bits: with denormals flushed, they would compare equal to zero.
template <class Bits>
bool all_zeros(const char* p, std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) {
    Bits bits;
    std::memcpy(&bits, p + i * static_cast<std::int64_t>(sizeof bits), sizeof bits);
    if (static_cast<Bits>(bits << 1) != 0) return false;
  }
  return true;
}

bool holds_nothing(const char* momentum, DType type, std::int64_t n) {
  switch (size_of(type)) {
    case 8:
      return all_zeros<std::uint64_t>(momentum, n);
    case 4:
      return all_zeros<std::uint32_t>(momentum, n);
    default:
      return all_zeros<std::uint16_t>(momentum, n);
  }
}

std::int64_t touched_bytes(const RowSegment& s) {
  return bytes_of(s.param_type, s.length) +
         (s.momentum != nullptr ? bytes_of(s.momentum_type, s.length) : 0);
}

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

// A segment with the kernels that step one of its rows.
class RowStepper {
 public:
  RowStepper(const RowSegment& segment, const SgdParams& params, const Duplicates& duplicates)
      : s_(segment), params_(params), duplicates_(duplicates) {
    const DType p = s_.param_type, c = compute_type(p);
    const DType m = s_.momentum != nullptr ? s_.momentum_type : p;
    value_row_ = dense_types_row(p, s_.value_type, m);
    sum_row_ = dense_types_row(p, c, m);
    add_row_ = dense_types_row(c, s_.value_type, c);
    const KernelTable& table = kernels();
    add_ = table.dense[sgd_rule(kAdd, false)][add_row_];
    for (const bool first : {false, true}) {
      const auto& kernels_of_rule = table.dense[sgd_rule(params, first)];
      step_[first] = kernels_of_rule[value_row_];
      step_sum_[first] = kernels_of_rule[sum_row_];
    }
  }

  // All rows of a linked bucket.
  void step(std::int64_t bucket) const {
    const auto [firsts, n] = duplicates_.firsts(bucket);
    if (n == 0) return;
    Scout scout(*this, firsts, n);
    for (std::int64_t j = 0; j < n; ++j) step_row(firsts[j], scout);
  }

  // The row that `position` is the first to name, shared among threads. `sum` has room for a row.
  void step_shared(std::int64_t position, void* sum) const {
    const Row row = row_at(position);
    const auto share = [&](void* w, const void* g, void* m, int types_row, const SgdParams& p) {
      run_dense({{w, g, m, s_.length, nullptr, 0, types_row, row.first}}, {{p}});
    };
    if (duplicates_.next(position) < 0) {
      share(row.param, values_at(position), row.momentum, value_row_, params_);
      return;
    }
    set_to_nothing(sum, compute_type(s_.param_type), s_.length);
    for (std::int64_t i = position; i >= 0; i = duplicates_.next(i)) {
      share(sum, values_at(i), nullptr, add_row_, kAdd);
    }
    share(row.param, sum, row.momentum, sum_row_, params_);
  }

 private:
  struct Row {
    char* param;
    char* momentum;
    bool first;
  };

  const char* values_at(std::int64_t position) const {
    return s_.values + position * s_.value_stride;
  }

  Row row_at(std::int64_t position) const {
    const std::int64_t row = s_.rows[position];
    char* momentum = s_.momentum != nullptr ? s_.momentum + row * s_.momentum_stride : nullptr;
    const bool first = momentum != nullptr && holds_nothing(momentum, s_.momentum_type, s_.length);
    return {s_.param + row * s_.param_stride, momentum, first};
  }

  // Goes through a bucket's positions row by row, some way ahead of the steps, and hints at what
  // they will need.
  class Scout {
   public:
    Scout(const RowStepper& stepper, const std::int64_t* firsts, std::int64_t n)
        : stepper_(stepper), first_(firsts), end_(firsts + n), position_(*firsts) {
      const RowSegment& s = stepper.s_;
      const std::int64_t ahead = rows_ahead(touched_bytes(s) + bytes_of(s.value_type, s.length));
      for (std::int64_t i = 0; i < ahead; ++i) advance();
    }

    SGF_INLINE void advance() {
      if (first_ == end_) return;
      const RowSegment& s = stepper_.s_;
      if (position_ == *first_) {
        const std::int64_t row = s.rows[position_];
        hint_row(s.param + row * s.param_stride, bytes_of(s.param_type, s.length));
        if (s.momentum != nullptr) {
          hint_row(s.momentum + row * s.momentum_stride, bytes_of(s.momentum_type, s.length));
        }
      }
      hint_row(stepper_.values_at(position_), bytes_of(s.value_type, s.length));
      position_ = stepper_.duplicates_.next(position_);
      if (position_ < 0 && ++first_ != end_) position_ = *first_;
    }

   private:
    const RowStepper& stepper_;
    const std::int64_t *first_, *end_;
    std::int64_t position_;
  };

  void step_row(std::int64_t position, Scout& scout) const {
    const Row row = row_at(position);
    if (duplicates_.next(position) < 0) {
      scout.advance();
      step_[row.first](row.param, values_at(position), row.momentum, s_.length, params_,
                           1.0);
      return;
    }
    alignas(64) char sum[kSumElements * sizeof(double)];
    for (std::int64_t begin = 0; begin < s_.length; begin += kSumElements) {
      const std::int64_t n = std::min(kSumElements, s_.length - begin);
      set_to_nothing(sum, compute_type(s_.param_type), n);
      for (std::int64_t i = position; i >= 0; i = duplicates_.next(i)) {
        if (begin == 0) scout.advance();
        add_(sum, values_at(i) + bytes_of(s_.value_type, begin), nullptr, n, kAdd, 1.0);
      }
      char* momentum = row.momentum;
      if (momentum != nullptr) momentum += bytes_of(s_.momentum_type, begin);
      step_sum_[row.first](row.param + bytes_of(s_.param_type, begin), sum, momentum, n, params_,
                          1.0);
    }
  }

  const RowSegment& s_;
  const SgdParams& params_;
  const Duplicates& duplicates_;
  int value_row_, sum_row_, add_row_;
  DenseKernel add_;
  DenseKernel step_[2], step_sum_[2];  // [1]: the momentum row holds nothing
};

}  // namespace

void run_rows(const std::vector<RowSegment>& segments, const SgdParams& params) {
  std::int64_t total = 0, numbers = 0, longest = 0;  // longest: of the rows that are shared
  for (const RowSegment& s : segments) {
    total += work_bytes(s);
    numbers += s.n;
    if (is_shared(s)) longest = std::max(longest, s.length);
  }
  const auto threads_for = [](std::int64_t shares) {
    return static_cast<int>(std::clamp<std::int64_t>(shares, 1, num_threads()));
  };
  const int threads = threads_for(total / kBytesPerThread);
  const int dealing_threads = threads_for(numbers / kDealt);

  struct Slot {
    std::size_t segment;
    std::int64_t part;
  };
  std::vector<Duplicates> duplicates;
  std::vector<RowStepper> steppers;
  std::vector<Slot> chunks, buckets;
  duplicates.reserve(segments.size());  // their addresses are kept
  for (std::size_t i = 0; i < segments.size(); ++i) {
    const RowSegment& s = segments[i];
    duplicates.emplace_back(s.rows, s.n, buckets_for(s, threads), dealing_threads);
    steppers.emplace_back(s, params, duplicates[i]);
    for (std::int64_t c = 0; c < duplicates[i].chunks(); ++c) chunks.push_back({i, c});
    for (std::int64_t b = 0; b < duplicates[i].buckets(); ++b) buckets.push_back({i, b});
  }
  std::vector<double> sum(static_cast<std::size_t>(longest));

  const auto for_all = [&](int team, const std::vector<Slot>& slots, const auto& body) {
    parallel_for(team, static_cast<std::int64_t>(slots.size()), [&](std::int64_t slot) {
      const Slot& s = slots[static_cast<std::size_t>(slot)];
      body(s.segment, s.part);
    });
  };
  for_all(dealing_threads, chunks,
          [&](std::size_t i, std::int64_t chunk) { duplicates[i].count(chunk); });
  for (Duplicates& d : duplicates) d.place();
  for_all(dealing_threads, chunks,
          [&](std::size_t i, std::int64_t chunk) { duplicates[i].deal(chunk); });
  for_all(threads, buckets, [&](std::size_t i, std::int64_t bucket) {
    duplicates[i].link(bucket);
    if (!is_shared(segments[i])) steppers[i].step(bucket);
  });
  for (std::size_t i = 0; i < segments.size(); ++i) {
    if (!is_shared(segments[i])) continue;
    const auto [firsts, n] = duplicates[i].firsts(0);
    for (std::int64_t j = 0; j < n; ++j) {
      steppers[i].step_shared(firsts[j], sum.data());
    }
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
