// Parallel regions on machines whose cores are not always there: a container with a quota, data
// workers, neighbours. A region waits for the thread that is kept waiting most, and may take many
// times as long as one thread alone would. Bits do not depend on threads, so what has been measured
// decides: a loop that loses by its regions goes alone for a while, and is then tried again.
#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>

#include "cpu/support/parallel.h"

namespace subgrad {

// Whether regions are measured at all. Off, they run on as many threads as they are worth.
void set_adaptive(bool on);
bool adaptive();

// How many loops, each by the size of its work, go alone now.
int loops_alone();

// What is known of one loop. Passages of about the same work share what they have found; those of
// more than kMost are left as they are: a slice of the scheduler's is little beside them.
class RegionHistory {
 public:
  RegionHistory() = default;
  ~RegionHistory();

  // Work is counted in bytes, or whatever takes a thread as long as a byte does.
  static constexpr std::int64_t kMost = 32 << 20;

  // Losses are counted in the time that a passage takes alone. So many, less what regions have won
  // since, send a loop alone; one region is never counted for more than four, nor all that is won
  // for more than two, or a loop that has long been fast would be slow to learn.
  static constexpr float kLimit = 8.0F, kMostLost = 4.0F, kMostWon = 2.0F;

  // How many passages go alone: each time that a trial fails, twice as many.
  static constexpr int kShortest = 64, kLongest = 4096;

  // How a passage is to be run, and whether its time is to be told.
  struct Passage {
    int threads;
    bool timed;
  };

  // `several`: whether there are processors for several threads. A loop begins alone if not.
  Passage begin(int threads, std::int64_t work, bool several);
  void end(const Passage& passage, std::int64_t work, std::int64_t ns);

  // Of passages of about so much work: how many more go alone.
  int alone(std::int64_t work) const;

 private:
  // What is known of the passages of about the same work. Who finds it held by another thread goes
  // on without it.
  struct Size {
    std::atomic<bool> held{false};
    std::atomic<int> alone{0};  // passages that go alone yet
    bool met = false;
    int stretch = kShortest;
    int samples = 0;      // of passages alone
    float unit_ns = 0.0;  // alone, a unit of work: near the median
    float lost = 0.0;     // in passages' time alone
    int until_timed = 0, until_probe = 0;
    std::uint32_t random = 1;

    Passage begin(int threads, bool several);
    void end(const Passage& passage, float ns);
    void go_alone();
    int draw(int n);
    bool time_now();
  };
  static constexpr int kSmallestClass = 16, kClasses = 10;  // powers of two
  static std::size_t class_of(std::int64_t work);

  std::array<Size, kClasses> sizes_;
};

// One passage of a loop. Whoever has asked for one thread is not kept: the clock is not read.
class Region {
 public:
  Region(RegionHistory& history, int threads, std::int64_t work)
      : history_(history), work_(work), passage_{threads, false} {
    if (threads > 1 && work <= RegionHistory::kMost && adaptive()) begin();
  }
  ~Region() {
    if (passage_.timed) end();
  }
  Region(const Region&) = delete;
  Region& operator=(const Region&) = delete;

  int threads() const { return passage_.threads; }

 private:
  void begin();
  void end();

  RegionHistory& history_;
  std::int64_t work_;
  RegionHistory::Passage passage_;
  std::chrono::steady_clock::time_point start_;
};

// What regions are told instead of the clock's time, in tests: so many ns a unit of work on several
// threads, and alone. 0 for both: the clock's.
void set_region_times(float parallel, float alone);

// parallel_for, with the history of its body's loop. `work`: see RegionHistory.
template <class Body>
void adaptive_for(int threads, std::int64_t slots, std::int64_t work, const Body& body) {
  static RegionHistory history;
  const Region region(history, threads, work);
  parallel_for(region.threads(), slots, body);
}

}  // namespace subgrad
