// Memory for batches. What is handed out belongs to whoever shows it, for as long as he likes, and
// comes back when nobody does any more: the next batch then finds memory whose pages are there.
#pragma once

#include <atomic>
#include <cstddef>
#include <memory>
#include <mutex>
#include <vector>

#include "cpu/support/fork_mutex.h"
#include "cpu/support/pages.h"

namespace subgrad {

class BlockPool;

struct PoolBlock {
  Pages memory;
  std::shared_ptr<BlockPool> pool;
  bool shown = false;  // by an array or a tensor; else it is on its way to one
  unsigned uses = 0;   // how often it was taken, the less the longer ago
};

// Gives a block back, from any thread, also when the pool is closed or nobody's any more.
struct GiveBack {
  void operator()(PoolBlock* block) const;
};
using HeldBlock = std::unique_ptr<PoolBlock, GiveBack>;

class BlockPool : public std::enable_shared_from_this<BlockPool> {
 public:
  // Keeps at most `most` blocks beyond those that are shown: on their way, or spare.
  explicit BlockPool(std::size_t most) : most_(most) {}

  // At least so many bytes, uninitialised, on their way.
  HeldBlock take(std::size_t bytes);
  // Has a block of take() be shown, by whoever gives it back then.
  static PoolBlock* show(HeldBlock block);
  // Frees what is spare, and from now on what comes back.
  void close();

  std::size_t spare();

 private:
  friend struct GiveBack;
  void give_back(std::unique_ptr<PoolBlock> block);

  // A child of fork() begins with none: in the parent another thread may have been at work on them.
  struct Blocks {
    std::mutex mutex;
    std::vector<std::unique_ptr<PoolBlock>> spare;
    std::size_t on_their_way = 0;
  };
  ForkMutex<Blocks> blocks_;
  std::atomic<std::size_t> most_;
};

}  // namespace subgrad
