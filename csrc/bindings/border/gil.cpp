#include "bindings/border/gil.h"

#include <chrono>
#include <thread>

namespace subgrad {
namespace {

[[noreturn]] void rest() {
  while (true) std::this_thread::sleep_for(std::chrono::hours(1));
}

}  // namespace

bool interpreter_ends() {
#if PY_VERSION_HEX >= 0x030D0000
  return Py_IsFinalizing() != 0;
#else
  return _Py_IsFinalizing() != 0;
#endif
}

// The unwinding comes from within, and a handler that does not return is all that stops it.
void WithoutGil::take_back(PyThreadState* thread) noexcept {
  try {
    PyEval_RestoreThread(thread);
  } catch (...) {
    rest();
  }
}

}  // namespace subgrad
