// A mutex that a child of fork() finds free, whoever held it in the parent.
#pragma once

#include <atomic>

#include "cpu/support/parallel.h"

namespace subgrad {

template <class Mutex>
class ForkMutex {
 public:
  ForkMutex() : held_(new Held{forks(), {}}) {}
  ~ForkMutex() {
    const Held* const held = held_.load();
    if (held->forks == forks()) delete held;
  }
  ForkMutex(const ForkMutex&) = delete;
  ForkMutex& operator=(const ForkMutex&) = delete;

  // A parent's is left behind as it is: it may be locked for ever.
  Mutex& get() {
    Held* held = held_.load(std::memory_order_acquire);
    if (held->forks != forks()) {
      auto* const fresh = new Held{forks(), {}};
      if (held_.compare_exchange_strong(held, fresh)) return fresh->mutex;
      delete fresh;  // another thread of the child was quicker
    }
    return held->mutex;
  }

 private:
  struct Held {
    unsigned forks;
    Mutex mutex;
  };
  std::atomic<Held*> held_;
};

}  // namespace subgrad
