// Huge pages under memory that exists: large steps wait for page walks, and with pages of 2 MiB
// there are 512 times fewer. Linux collapses a block of small pages into a huge one in place, with
// its addresses and its contents: whoever reads or writes it meanwhile waits, and nothing else.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace subgrad {

// What SUBGRAD_FAST_HUGE_PAGES says: collapse large plans' memory little by little, at the first
// step, or leave all memory as the system gives it.
enum class HugePages : unsigned char { automatic, now, off };

// Throws std::invalid_argument for a word that is none of these. Read once.
HugePages huge_pages();
const char* name_of(HugePages setting);

inline constexpr std::int64_t kHugePage = 2 << 20;

// Has new memory, which nobody has touched, be given huge pages where the system has them: those of
// which all lies in it. A wish; without it all works. False if the system has none.
bool advise_huge(const void* begin, std::size_t bytes);

struct ByteRun {
  const char* begin;
  std::int64_t bytes;
};

// The blocks of 2 MiB, aligned, of which at least half lies in the runs: so what is resident grows
// by at most one block for each run. Only blocks of private memory that no file lies behind.
std::vector<const char*> huge_blocks(std::vector<ByteRun> runs);

// Collapses one block. refused: it is not to be asked for again (no such system, or memory that was
// freed, or is to have no huge pages); busy: it may be later.
enum class Collapsed : unsigned char { yes, refused, busy };
Collapsed collapse(const char* block);

// Of the runs' bytes, those that lie on huge pages now; -1 where the system does not tell.
std::int64_t bytes_on_huge_pages(const std::vector<ByteRun>& runs);

// Collapses all blocks of the runs now. The bytes of those that are huge pages then.
std::int64_t collapse_all(const std::vector<ByteRun>& runs);

// The memory of something that is used step by step. After some steps its blocks are collapsed, a
// few after each, in at most a tenth of the time that the steps take themselves; all of them after
// the second, if that is asked for.
class PagesInUse {
 public:
  static constexpr std::int64_t kLeast = 8 << 20;  // bytes, below which nothing is done
  static constexpr int kSteps = 16, kStepsNow = 2, kBlocksAStep = 4, kTries = 3, kMostBusy = 24;

  // Whether after() has anything to do: asked before a step's time is taken.
  bool wanted() const { return !over_; }

  // `ns`: what the step took. `runs()` is called once, when it is time.
  template <class Runs>
  void after(std::int64_t ns, const Runs& runs) {
    ++steps_;
    earned_ns_ += ns / 10;
    if (steps_ < (huge_pages() == HugePages::now ? kStepsNow : kSteps)) return;
    if (!begun_) begin(runs());
    go_on();
  }

  // Runs step() and goes on, if there is anything to do.
  template <class Step, class Runs>
  void timed(const Step& step, const Runs& runs) {
    if (!wanted()) return step();
    const auto start = std::chrono::steady_clock::now();
    step();
    const std::chrono::nanoseconds ns = std::chrono::steady_clock::now() - start;
    after(ns.count(), runs);
  }

  // Blocks that are still to be collapsed.
  std::size_t left() const { return blocks_.size() - next_; }

 private:
  void begin(const std::vector<ByteRun>& runs);
  void go_on();

  std::vector<const char*> blocks_;
  std::size_t next_ = 0;
  std::int64_t earned_ns_ = 0;  // less what has been spent
  int steps_ = 0, busy_ = 0;    // busy: answers in a row
  bool begun_ = false, over_ = false;
};

}  // namespace subgrad
