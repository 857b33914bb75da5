// Memory for the length of a call, taken again by the next one. A request of 1 KiB or more makes
// glibc put together all small blocks that have been freed: in a training loop, after a backward
// that has freed hundreds of them, that takes as long as a step over small tensors does.
#pragma once

#include <cstddef>
#include <new>
#include <vector>

namespace subgrad {

// Blocks of the calling thread, by their size; freed when the thread ends.
void* take_recycled(std::size_t bytes);
void give_recycled(void* block, std::size_t bytes) noexcept;

template <class T>
struct Recycling {
  using value_type = T;

  Recycling() = default;
  template <class U>
  Recycling(const Recycling<U>&) {}

  T* allocate(std::size_t n) { return static_cast<T*>(take_recycled(n * sizeof(T))); }
  void deallocate(T* block, std::size_t n) noexcept { give_recycled(block, n * sizeof(T)); }

  friend bool operator==(const Recycling&, const Recycling&) { return true; }
  friend bool operator!=(const Recycling&, const Recycling&) { return false; }
};

template <class T>
using Recycled = std::vector<T, Recycling<T>>;

}  // namespace subgrad
