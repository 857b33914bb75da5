// What rows miss while no gradient names them, so that they can take it later: dense steps at the
// price of the rows that are read.
//
// A dense step moves a row without a gradient too: by its momentum, and by decay. Here it is noted
// what each step was and how many of them each row has taken. Before a row is read or stepped, the
// steps that it lacks are replayed, by the dense rule, with a gradient of zero: the same bits.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <vector>

#include "core/sgd_params.h"
#include "core/types.h"
#include "cpu/kernel_table.h"

namespace subgrad {

constexpr std::int64_t bytes_of(DType t, std::int64_t elements) {
  return elements * static_cast<std::int64_t>(size_of(t));
}

// Where rows lie. They are runs of `length` elements, a fixed distance in bytes apart.
struct RowMemory {
  char* param;
  std::int64_t param_stride;
  char* momentum;  // null: there is none
  std::int64_t momentum_stride;
  std::int64_t length;
  DType param_type, momentum_type;
};

// One caller at a time, but for lacks(), bring() and mark(), which threads may call together for
// different rows.
class RowHistory {
 public:
  // A few rows are brought up to date with every step, one after the other, so that none lacks more
  // than about this many steps and no more need be remembered.
  static constexpr std::int64_t kWindow = 1024;

  // Of rows that lack nothing. `most_steps`: counted up to here, then anew (tests have few).
  explicit RowHistory(std::int64_t rows, std::uint32_t most_steps = 1u << 31);

  std::int64_t rows() const { return rows_; }
  // Whether any row may lack a step, and whether one does.
  bool pending() const { return !stretches_.empty(); }
  bool lacks(std::int64_t row) const { return taken_of(row) < now_; }
  // Whether a step that a row may lack moves its momentum.
  bool has_momentum() const;
  std::int64_t lacking() const;  // rows
  // The first of n positions whose row lacks a step, or -1.
  std::int64_t first_lacking(const std::int64_t* rows, std::int64_t n) const;

  // A step of all rows. Those that a gradient names are brought up to date, stepped and marked by
  // the caller before it ends. `scale` is what gradients are multiplied by; `first`: momentum holds
  // nothing yet. Only the beginning throws.
  void begin_step(const SgdParams& params, bool first, double scale);
  void bring(const RowMemory& memory, std::int64_t row) { replay(memory, row, taken_of(row)); }
  void mark(std::int64_t row) { taken_[row].store(next_, std::memory_order_relaxed); }
  void end_step(const RowMemory& memory);

  // Rows take what they lack: those at n positions, in any order and with repetition, or all.
  void catch_up(const RowMemory& memory, const std::int64_t* rows, std::int64_t n);
  void catch_up(const RowMemory& memory);

 private:
  // The terms of a run of steps, and how many steps come before it.
  struct Terms {
    SgdParams params;
    double scale;
    std::uint32_t begin;
  };
  // Runs of one rule.
  struct Stretch {
    int rule;
    bool by_momentum;   // a row without momentum rests
    std::uint32_t end;  // steps before this one
    std::vector<Terms> terms;
    std::vector<ReplayRun> runs;

    // The run that the step belongs to that comes after `taken` ones.
    std::size_t run_after(std::uint32_t taken) const;
  };

  std::uint32_t taken_of(std::int64_t row) const {
    return taken_[row].load(std::memory_order_relaxed);
  }
  void replay(const RowMemory& memory, std::int64_t row, std::uint32_t taken) const;
  void catch_up_between(const RowMemory& memory, std::int64_t begin, std::int64_t end);
  void make_room(int rule, bool by_momentum, const Terms& terms);
  void forget_before(std::uint32_t step);
  void count_anew();

  std::int64_t rows_;
  std::uint32_t most_steps_;
  std::unique_ptr<std::atomic<std::uint32_t>[]> taken_;  // steps, by row
  std::uint32_t now_ = 0, next_ = 0;                     // steps before this one, and after it
  std::uint32_t floor_ = 0;                              // steps that every row has taken
  std::vector<Stretch> stretches_;                       // all that any row lacks; may be more
  // The next row to be brought up to date unasked; the steps when the first one last was.
  std::int64_t cursor_ = 0;
  std::uint32_t round_ = 0;
};

}  // namespace subgrad
