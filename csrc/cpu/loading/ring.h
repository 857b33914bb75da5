// Batches on their way: a ring of slots, each with output buffers, filled at once by the caller or
// ahead of time by a thread of the ring's own. That thread never meets Python, so it needs no GIL,
// and a batch costs no switch between Python threads.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <vector>

#include "cpu/loading/gather.h"
#include "cpu/support/regions.h"

namespace subgrad {

// All calls come from one thread at a time. Sources and outputs must live until the ring is
// destroyed, or, for outputs, until others are bound to the slot.
class GatherRing {
 public:
  GatherRing(std::vector<RowSource> sources, int slots);
  ~GatherRing();
  GatherRing(const GatherRing&) = delete;
  GatherRing& operator=(const GatherRing&) = delete;

  int slots() const { return static_cast<int>(slots_.size()); }

  // Prepares a slot, which is not on its way, for a batch of so many rows. Returns where the
  // buffers are to be written that it goes to, one per source.
  char** prepare(int slot, std::int64_t rows);

  // What a slot is filled by: as many indices as it has rows, to be written here and to be inside
  // the sources before it is filled. Nothing may be submitted in it.
  std::int64_t* indices(int slot) { return at(slot).indices.data(); }

  // Fills a slot now.
  void gather(int slot);

  // Has a slot filled in the background, in the order of submission. wait() returns once it is
  // full, and helps as long as it is not.
  void submit(int slot);
  void wait(int slot);
  bool pending(int slot) const { return at(slot).pending; }  // submitted, not waited for

  // Forgets what was submitted and not waited for. Nothing is written to any slot afterwards.
  void cancel();

 private:
  struct Slot {
    std::vector<char*> outputs;
    std::int64_t rows = 0;
    std::vector<std::int64_t> indices;
    std::atomic<std::int64_t> next_chunk{0};
    std::int64_t chunks = 0;
    bool pending = false;  // submitted, not waited for
  };
  struct Worker;

  Slot& at(int slot) const { return *slots_[static_cast<std::size_t>(slot)]; }
  void start(Slot& slot);
  bool fill_chunk(Slot& slot) const;
  std::int64_t bytes_left(const Slot& slot) const;
  void finish(Slot& slot, int threads) const;
  void hold(bool on);
  void withdraw(Slot& slot);
  void work(Worker& worker) const;

  std::vector<RowSource> sources_;
  std::int64_t row_bytes_ = 0;   // of all sources together
  std::int64_t chunk_rows_ = 1;  // what a thread takes at a time
  RegionHistory history_;        // of what is filled by whoever waits for it
  std::vector<std::unique_ptr<Slot>> slots_;
  // Not owned by a smart pointer: in a child of fork() the thread does not exist, its mutex may be
  // locked for ever, and neither may be destroyed.
  Worker* worker_ = nullptr;
};

}  // namespace subgrad
