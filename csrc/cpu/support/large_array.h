// Uninitialised memory for tables that are read at random: on large pages where Linux has them,
// because with small ones most reads of a large table also miss the translation cache.
#pragma once

#include <cstddef>
#include <cstdlib>
#include <memory>
#include <new>

#include "cpu/support/huge_pages.h"

namespace subgrad {

struct FreeMemory {
  void operator()(void* p) const { std::free(p); }
};
template <class T>
using LargeArray = std::unique_ptr<T[], FreeMemory>;

template <class T>
LargeArray<T> large_array(std::size_t count) {
  constexpr std::size_t page = 2 << 20;
  std::size_t bytes = count * sizeof(T);
  void* memory = nullptr;
#if defined(__linux__)
  if (bytes >= page) {
    bytes = (bytes + page - 1) / page * page;
    memory = std::aligned_alloc(page, bytes);
    if (memory != nullptr) advise_huge(memory, bytes);
  }
#endif
  if (memory == nullptr) memory = std::malloc(bytes > 0 ? bytes : 1);
  if (memory == nullptr) throw std::bad_alloc();
  return LargeArray<T>(static_cast<T*>(memory));
}

}  // namespace subgrad
