// When the GIL is worth releasing, and how it is had again: work on few elements is over before
// another thread could have taken it.
#pragma once

#include <pybind11/pybind11.h>

#include <cstdint>
#include <optional>

namespace subgrad {

namespace py = pybind11;

// Elements of a step, each of which costs well under a nanosecond; numbers that are drawn, looked
// up or sorted cost more.
inline constexpr std::int64_t kStepElements = 8 << 10, kDrawnElements = 1 << 10;

// Whether the interpreter has begun to end: threads but the main one get the GIL no more.
bool interpreter_ends();

// The GIL, let go for as long as this lives. Not pybind11's: when the interpreter ends meanwhile,
// a daemon thread never gets it back. Python before 3.14 then ends the thread by unwinding its
// stack, which is std::terminate in a destructor; here the thread rests until the process is gone,
// as Python's own do from 3.14 on. What it holds stays alive, so that nothing is freed under it.
class WithoutGil {
 public:
  WithoutGil() : thread_(PyEval_SaveThread()) {}
  ~WithoutGil() { take_back(thread_); }
  WithoutGil(const WithoutGil&) = delete;
  WithoutGil& operator=(const WithoutGil&) = delete;

 private:
  static void take_back(PyThreadState* thread) noexcept;

  PyThreadState* thread_;
};

template <class Body>
void without_gil(std::int64_t count, std::int64_t least, const Body& body) {
  std::optional<WithoutGil> released;
  if (count >= least) released.emplace();
  body();
}

template <class Body>
void without_gil(std::int64_t count, const Body& body) {
  without_gil(count, kDrawnElements, body);
}

}  // namespace subgrad
