// One object's calls, one after the other. A call lets go of the GIL while a kernel runs; another
// thread's call to the same object would meanwhile change what that kernel reads.
#pragma once

#include <memory>
#include <mutex>
#include <thread>

#include "cpu/support/parallel.h"

namespace subgrad {

// Asked for and given back with the GIL in hand.
class Turns {
 public:
  // Waits, without the GIL, for as long as another thread has its turn. Within its own turn a
  // thread may take another one. Throws where waiting would be for ever: at the interpreter's end.
  void take();
  void give();

 private:
  struct Lock {
    std::mutex mutex;
    std::thread::id owner;
    int depth = 0;
    unsigned forks = 0;  // of the process that made it
  };
  Lock& lock();

  std::unique_ptr<Lock> lock_;  // made when it is first asked for
};

// A turn for as long as this lives.
class Turn {
 public:
  explicit Turn(Turns& turns) : turns_(turns) { turns_.take(); }
  ~Turn() { turns_.give(); }
  Turn(const Turn&) = delete;
  Turn& operator=(const Turn&) = delete;

 private:
  Turns& turns_;
};

// Whether an object is at work, which its own thread finds out where code of Python's that the work
// calls comes back to it. What a thread of the parent was at does not hold in a child of fork().
class AtWork {
 public:
  bool now() const { return mark_ == forks() + 1; }

  struct Scope {
    explicit Scope(AtWork& work) : work_(work) { work_.mark_ = forks() + 1; }
    ~Scope() { work_.mark_ = 0; }
    Scope(const Scope&) = delete;
    Scope& operator=(const Scope&) = delete;

   private:
    AtWork& work_;
  };

 private:
  unsigned mark_ = 0;
};

}  // namespace subgrad
