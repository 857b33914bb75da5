#include "cpu/rows/stepper.h"

#include <cstring>

#include "cpu/dense/dense.h"
#include "cpu/support/hints.h"

namespace subgrad {
namespace {

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

}  // namespace

RowStepper::RowStepper(const RowSegment& segment, const SgdParams& params,
                       const Duplicates& duplicates)
    : s_(segment), params_(params), duplicates_(duplicates) {
  const DType p = s_.param_type, c = compute_dtype(p), v = s_.value_type;
  const DType m = s_.momentum != nullptr ? s_.momentum_type : p;
  value_row_ = dense_types_row(p, v, m);
  sum_row_ = dense_types_row(p, c, m);
  add_row_ = dense_types_row(c, v, c);
  const KernelTable& table = kernels();
  add_ = table.dense[sgd_rule(kAddition, false)][add_row_];
  for (const bool first : {false, true}) {
    const auto& kernels_of_rule = table.dense[sgd_rule(params, first)];
    step_[first] = kernels_of_rule[value_row_];
    step_sum_[first] = kernels_of_rule[sum_row_];
  }
  const auto& clip = c == DType::f64 ? table.clip_to_f64 : table.clip_to_f32;
  clip_value_ = clip[static_cast<int>(v)];
  clip_sum_ = clip[static_cast<int>(c)];
}

RowStepper::Row RowStepper::row_at(std::int64_t position) const {
  const std::int64_t row = s_.rows[position];
  char* momentum = s_.momentum != nullptr ? s_.momentum + row * s_.momentum_stride : nullptr;
  char* param = s_.param + row * s_.param_stride;
  if (s_.history != nullptr) {
    if (s_.history->lacks(row)) s_.history->bring(memory_of(s_), row);
    s_.history->mark(row);
    return {param, momentum, s_.first};
  }
  return {param, momentum,
          momentum != nullptr && holds_nothing(momentum, s_.momentum_type, s_.length)};
}

// Goes through a bucket's positions row by row, some way ahead of the steps, and hints at what
// they will need.
class RowStepper::Scout {
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

void RowStepper::step(std::int64_t bucket) const {
  const auto [firsts, n] = duplicates_.firsts(bucket);
  if (n == 0) return;
  Scout scout(*this, firsts, n);
  for (std::int64_t j = 0; j < n; ++j) step_row(firsts[j], scout);
}

void RowStepper::step_row(std::int64_t position, Scout& scout) const {
  const Row row = row_at(position);
  const bool is_alone = alone(position), limited = stage_.limit != kAbsent;
  if (is_alone && !limited) {
    scout.advance();
    step_[row.first](row.param, values_at(position), row.momentum, s_.length, params_,
                     stage_.scale);
    return;
  }
  const double scale = limited ? 1.0 : stage_.scale;
  Sum sum;
  for (std::int64_t begin = 0; begin < s_.length; begin += kSumElements) {
    const std::int64_t n = std::min(kSumElements, s_.length - begin);
    const auto advance = [&] {
      if (begin == 0) scout.advance();
    };
    if (is_alone) {
      advance();
      clip_value_(values_at(position) + bytes_of(s_.value_type, begin), sum.bytes, n, stage_);
    } else {
      add_up(position, begin, n, sum.bytes, advance);
      if (limited) clip_sum_(sum.bytes, sum.bytes, n, stage_);
    }
    char* momentum = row.momentum;
    if (momentum != nullptr) momentum += bytes_of(s_.momentum_type, begin);
    step_sum_[row.first](row.param + bytes_of(s_.param_type, begin), sum.bytes, momentum, n,
                         params_, scale);
  }
}

void RowStepper::step_shared(std::int64_t position, void* sum) const {
  const Row row = row_at(position);
  const auto share = [&](void* w, const void* g, void* m, int types_row, const SgdParams& p,
                         const GradientStage& stage) {
    run_staged({{w, g, m, s_.length, nullptr, 0, types_row, row.first}}, {{p}}, {stage});
  };
  if (alone(position)) {
    share(row.param, values_at(position), row.momentum, value_row_, params_, stage_);
    return;
  }
  set_to_nothing(sum, compute_dtype(s_.param_type), s_.length);
  for (std::int64_t i = position; i >= 0; i = duplicates_.next(i)) {
    share(sum, values_at(i), nullptr, add_row_, kAddition, {});
  }
  share(row.param, sum, row.momentum, sum_row_, params_, stage_);
}

}  // namespace subgrad
