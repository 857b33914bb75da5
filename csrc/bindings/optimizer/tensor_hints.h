// Hints at what lies behind a torch tensor's Python object. Inside a training loop the caches hold
// what forward and backward have left: a step and zero_grad over many small tensors wait for lines,
// one after the other, unless they are asked for ahead.
#pragma once

#include <Python.h>

#include "core/macros.h"

namespace subgrad {

// Whether a tensor's Python object is followed by the address of its C++ object, by what torch says
// of this one. No hint is given where it is not, as nothing may be read there.
bool has_known_layout(PyObject* tensor);

// The C++ object of a tensor whose layout is known.
SGF_INLINE const char* behind(PyObject* tensor) {
  return *reinterpret_cast<const char* const*>(tensor + 1);
}

class TensorHints {
 public:
  explicit TensorHints(bool known) : known_(known) {}

  // First the Python object, then, once that has come, the C++ object and what it begins with: its
  // storage and what autograd knows of it.
  SGF_INLINE void object(PyObject* tensor) const {
    if (known_) SGF_PREFETCH(tensor);
  }
  SGF_INLINE void inside(PyObject* tensor) const {
    if (known_) lines(subgrad::behind(tensor));
  }
  SGF_INLINE void behind(PyObject* tensor) const {
    if (!known_) return;
    const auto* const members = reinterpret_cast<const char* const*>(subgrad::behind(tensor));
    for (int i = 2; i < 5; ++i) lines(members[i], 2);  // behind a table of functions and counts
  }

 private:
  static constexpr int kLine = 64;

  static SGF_INLINE void lines(const char* begin, int count = 3) {
    for (int i = 0; i < count; ++i) SGF_PREFETCH(begin + i * kLine);
  }

  bool known_;
};

}  // namespace subgrad
