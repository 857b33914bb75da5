#include "cpu/rows/history.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "cpu/support/hints.h"
#include "cpu/support/parallel.h"

namespace subgrad {
namespace {

// A parallel region costs less than to look at this many rows whether they lack something, or to
// replay this many.
constexpr std::int64_t kLookedAt = 2048, kReplayed = 128;
constexpr std::int64_t kSlotsPerThread = 4;

// Rows that lack something are gathered before they are replayed, so that their memory can be
// hinted at meanwhile.
constexpr int kTogether = 32;

// Elements of a row that take all their steps before the next ones do.
constexpr std::int64_t kReplayElements = 512, kStepsUnasked = 16;

bool all_bits_zero(const char* p, std::int64_t bytes) {
  std::uint64_t bits = 0;
  std::int64_t i = 0;
  for (; i + 8 <= bytes; i += 8) {
    std::uint64_t word;
    std::memcpy(&word, p + i, sizeof word);
    bits |= word;
  }
  for (; i < bytes; ++i) bits |= static_cast<unsigned char>(p[i]);
  return bits == 0;
}

// Whether a step leaves a row without a gradient as it is, unless it has a momentum that is not +0.
bool moves_by_momentum_alone(const SgdRow& rule, const SgdParams& params, double scale) {
  return rule.decay == Decay::none && rule.buffer != Buffer::set && rule.prox == Prox::none &&
         !params.maximize && std::isfinite(scale);
}

// Steps like this one, none as yet.
ReplayRun run_of(const SgdParams& params, double scale) {
  ReplayRun run{};
  const auto coefficients = SgdCoefficients<float>::of(params, scale);
  static_assert(sizeof coefficients <= sizeof run.coefficients);
  std::memcpy(run.coefficients, &coefficients, sizeof coefficients);
  return run;
}

bool alike(const SgdParams& a, const SgdParams& b) {
  return std::all_of(std::begin(kSgdFields), std::end(kSgdFields), [&](const SgdField& field) {
    return field.number != nullptr ? a.*field.number == b.*field.number
                                   : a.*field.flag == b.*field.flag;
  });
}

// The steps of a rule that has no kernel for many of them, on elements that fit the cache.
struct Stepwise {
  DenseKernel step;
  char* param;
  char* momentum;
  std::int64_t n, param_bytes, momentum_bytes;

  void take(const SgdParams& params, double scale) const {
    alignas(64) static constexpr double kNoGradient[kReplayElements] = {};
    step(param, kNoGradient, momentum, n, params, scale);
  }

  // Until they change nothing any more.
  void take(const SgdParams& params, double scale, std::int64_t times) const {
    char before[2 * kReplayElements * sizeof(double)];
    for (std::int64_t left = times; left > 0; --left) {
      const bool asks = left % kStepsUnasked == 0;
      if (asks) copy_to(before);
      take(params, scale);
      if (asks && std::memcmp(before, param, bytes(param_bytes)) == 0 &&
          (momentum == nullptr ||
           std::memcmp(before + param_bytes, momentum, bytes(momentum_bytes)) == 0)) {
        return;
      }
    }
  }

 private:
  static std::size_t bytes(std::int64_t n) { return static_cast<std::size_t>(n); }
  void copy_to(char* to) const {
    std::memcpy(to, param, bytes(param_bytes));
    if (momentum != nullptr) std::memcpy(to + param_bytes, momentum, bytes(momentum_bytes));
  }
};

// body(begin, end) for parts of so many rows, of which `per_thread` are worth a thread.
template <class Body>
void for_rows(std::int64_t rows, std::int64_t per_thread, const Body& body) {
  const int threads =
      static_cast<int>(std::clamp<std::int64_t>(rows / per_thread, 1, num_threads()));
  const std::int64_t size = std::max<std::int64_t>(1, per_thread / kSlotsPerThread);
  parallel_for(threads, (rows + size - 1) / size,
               [&](std::int64_t slot) { body(slot * size, std::min(rows, (slot + 1) * size)); });
}

}  // namespace

RowHistory::RowHistory(std::int64_t rows, std::uint32_t most_steps)
    : rows_(rows),
      most_steps_(most_steps),
      taken_(new std::atomic<std::uint32_t>[static_cast<std::size_t>(rows)]()) {}

bool RowHistory::has_momentum() const {
  return std::any_of(stretches_.begin(), stretches_.end(),
                     [](const Stretch& s) { return kSgdRows[s.rule].buffer != Buffer::none; });
}

std::int64_t RowHistory::lacking() const {
  std::int64_t count = 0;
  for (std::int64_t row = 0; pending() && row < rows_; ++row) count += lacks(row) ? 1 : 0;
  return count;
}

std::int64_t RowHistory::first_lacking(const std::int64_t* rows, std::int64_t n) const {
  for (std::int64_t i = 0; pending() && i < n; ++i) {
    if (lacks(rows[i])) return i;
  }
  return -1;
}

void RowHistory::begin_step(const SgdParams& params, bool first, double scale) {
  if (now_ >= most_steps_) count_anew();
  const double without_gradient = std::isfinite(scale) ? 1.0 : scale;  // 0 times either is the same
  const int rule = sgd_rule(params, first);
  next_ = now_;
  const bool by_momentum = moves_by_momentum_alone(kSgdRows[rule], params, scale);
  if (by_momentum && kSgdRows[rule].buffer == Buffer::none) return;
  make_room(rule, by_momentum, {params, without_gradient, now_});
  ++next_;
}

// The last run is one that such a step belongs to; it is counted when it has been taken.
void RowHistory::make_room(int rule, bool by_momentum, const Terms& terms) {
  const bool follows =
      pending() && stretches_.back().rule == rule && stretches_.back().by_momentum == by_momentum;
  if (!follows) {
    stretches_.push_back({rule, by_momentum, now_, {terms}, {run_of(terms.params, terms.scale)}});
    return;
  }
  Stretch& last = stretches_.back();
  const Terms& before = last.terms.back();
  if (alike(before.params, terms.params) &&
      std::memcmp(&before.scale, &terms.scale, sizeof before.scale) == 0) {
    return;
  }
  if (last.terms.size() == last.terms.capacity())
    last.terms.reserve(2 * last.terms.size());  // both are added, or neither
  last.runs.push_back(run_of(terms.params, terms.scale));
  last.terms.push_back(terms);
}

std::size_t RowHistory::Stretch::run_after(std::uint32_t taken) const {
  const auto after =
      std::upper_bound(terms.begin(), terms.end(), taken,
                       [](std::uint32_t step, const Terms& t) { return step < t.begin; });
  return after == terms.begin() ? 0 : static_cast<std::size_t>(after - terms.begin() - 1);
}

void RowHistory::end_step(const RowMemory& memory) {
  if (next_ == now_) return;
  ++stretches_.back().runs.back().times;
  ++stretches_.back().end;
  now_ = next_;
  const std::int64_t end = std::min(rows_, cursor_ + (rows_ + kWindow - 1) / kWindow);
  const std::int64_t begin = cursor_;
  for_rows(end - begin, kReplayed, [&](std::int64_t first, std::int64_t last) {
    catch_up_between(memory, begin + first, begin + last);
  });
  cursor_ = end;
  if (cursor_ < rows_) return;
  forget_before(round_);
  cursor_ = 0;
  round_ = now_;
}

void RowHistory::catch_up_between(const RowMemory& memory, std::int64_t begin, std::int64_t end) {
  for (std::int64_t row = begin; row < end; ++row) {
    if (!lacks(row)) continue;
    bring(memory, row);
    taken_[row].store(now_, std::memory_order_relaxed);
  }
}

void RowHistory::catch_up(const RowMemory& memory) {
  if (!pending()) return;
  for_rows(rows_, kReplayed,
           [&](std::int64_t begin, std::int64_t end) { catch_up_between(memory, begin, end); });
  stretches_.clear();
  cursor_ = 0;
  round_ = floor_ = now_;
}

// Of threads that meet at a row, the first takes its steps; nobody reads the row before all are
// done.
void RowHistory::catch_up(const RowMemory& memory, const std::int64_t* rows, std::int64_t n) {
  if (!pending()) return;
  for_rows(n, kLookedAt, [&](std::int64_t begin, std::int64_t end) {
    std::int64_t found[kTogether];
    std::uint32_t taken[kTogether];
    int count = 0;
    const auto replay_found = [&] {
      for (int i = 0; i < count; ++i) replay(memory, found[i], taken[i]);
      count = 0;
    };
    for (std::int64_t i = begin; i < end; ++i) {
      const std::int64_t row = rows[i];
      if (i + kTogether < end) hint(reinterpret_cast<const char*>(&taken_[rows[i + kTogether]]));
      if (!lacks(row)) continue;
      const std::uint32_t had = taken_[row].exchange(now_, std::memory_order_relaxed);
      if (had >= now_) continue;
      hint_row(memory.param + row * memory.param_stride,
               bytes_of(memory.param_type, memory.length));
      if (memory.momentum != nullptr) {
        hint_row(memory.momentum + row * memory.momentum_stride,
                 bytes_of(memory.momentum_type, memory.length));
      }
      found[count] = row;
      taken[count++] = had;
      if (count == kTogether) replay_found();
    }
    replay_found();
  });
}

void RowHistory::replay(const RowMemory& memory, std::int64_t row, std::uint32_t taken) const {
  char* const w = memory.param + row * memory.param_stride;
  char* const m =
      memory.momentum != nullptr ? memory.momentum + row * memory.momentum_stride : nullptr;
  const DType c = compute_dtype(memory.param_type);
  const DType momentum_type = m != nullptr ? memory.momentum_type : memory.param_type;
  const bool in_registers = memory.param_type == DType::f32 && momentum_type == DType::f32;
  for (const Stretch& s : stretches_) {
    if (s.end <= taken) continue;
    if (s.by_momentum && all_bits_zero(m, bytes_of(momentum_type, memory.length))) continue;
    const std::size_t begin = s.run_after(taken);
    const std::uint32_t first = s.terms[begin].begin;
    const std::int64_t skipped = taken > first ? taken - first : 0;
    const ReplayKernel kernel = in_registers ? kernels().replay[s.rule] : nullptr;
    if (kernel != nullptr) {
      kernel(w, m, memory.length, &s.runs[begin], static_cast<std::int64_t>(s.runs.size() - begin),
             skipped);
      continue;
    }
    const DenseKernel step =
        kernels().dense[s.rule][dense_types_row(memory.param_type, c, momentum_type)];
    for (std::int64_t at = 0; at < memory.length; at += kReplayElements) {
      const std::int64_t n = std::min(kReplayElements, memory.length - at);
      const Stepwise part = {step,
                             w + bytes_of(memory.param_type, at),
                             m != nullptr ? m + bytes_of(momentum_type, at) : nullptr,
                             n,
                             bytes_of(memory.param_type, n),
                             bytes_of(momentum_type, n)};
      for (std::size_t run = begin; run < s.runs.size(); ++run) {
        const std::int64_t before = run == begin ? skipped : 0;
        part.take(s.terms[run].params, s.terms[run].scale, s.runs[run].times - before);
      }
    }
  }
}

// Every row has taken the steps before this one.
void RowHistory::forget_before(std::uint32_t step) {
  floor_ = step;
  stretches_.erase(stretches_.begin(),
                   std::find_if(stretches_.begin(), stretches_.end(),
                                [&](const Stretch& s) { return s.end > step; }));
  if (stretches_.empty()) return;
  Stretch& s = stretches_.front();
  const auto n = static_cast<std::ptrdiff_t>(s.run_after(step));
  s.terms.erase(s.terms.begin(), s.terms.begin() + n);
  s.runs.erase(s.runs.begin(), s.runs.begin() + n);
}

void RowHistory::count_anew() {
  for (std::int64_t row = 0; row < rows_; ++row) {
    taken_[row].store(taken_of(row) - floor_, std::memory_order_relaxed);
  }
  for (Stretch& s : stretches_) {
    s.end -= floor_;
    // A run may have begun before all that is remembered of it.
    for (std::size_t i = 0; i < s.runs.size(); ++i) {
      std::uint32_t& begin = s.terms[i].begin;
      const std::uint32_t early = begin < floor_ ? floor_ - begin : 0;
      begin -= floor_ - early;
      s.runs[i].times -= early;
    }
  }
  now_ -= floor_;
  round_ -= floor_;
  floor_ = 0;
}

}  // namespace subgrad
