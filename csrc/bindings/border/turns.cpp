#include "bindings/border/turns.h"

#include <stdexcept>

#include "bindings/border/gil.h"

namespace subgrad {

// In a child of fork() a thread that had its turn is not there to give it back, so that its lock is
// left behind as it is and another one is made.
Turns::Lock& Turns::lock() {
  const unsigned now = forks();
  const bool left = lock_ != nullptr && lock_->forks != now;
  if (left && lock_->owner != std::this_thread::get_id()) static_cast<void>(lock_.release());
  if (lock_ == nullptr) lock_ = std::make_unique<Lock>();
  lock_->forks = now;
  return *lock_;
}

void Turns::take() {
  Lock& mine = lock();
  const auto me = std::this_thread::get_id();
  if (mine.owner != me) {
    if (!mine.mutex.try_lock()) {
      if (interpreter_ends()) throw std::runtime_error("the interpreter is shutting down");
      const WithoutGil released;
      mine.mutex.lock();
    }
    mine.owner = me;
  }
  ++mine.depth;
}

void Turns::give() {
  Lock& mine = *lock_;
  if (--mine.depth > 0) return;
  mine.owner = std::thread::id();
  mine.mutex.unlock();
}

}  // namespace subgrad
