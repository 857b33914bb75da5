// Memory of which large pieces go back to the system as soon as they are freed: malloc comes to
// keep blocks of up to 32 MiB for itself, of which a loader's owner who has let go of it knows
// nothing.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdlib>
#include <new>
#include <utility>

#if defined(__linux__)
#include <sys/mman.h>
#endif

#include "cpu/support/huge_pages.h"

namespace subgrad {

// Uninitialised bytes that begin with a cache line; large ones on huge pages where Linux has them,
// as new memory costs a fault a page.
class Pages {
 public:
  Pages() = default;
  explicit Pages(std::size_t bytes) : bytes_(std::max<std::size_t>(bytes, 1)) {
#if defined(__linux__)
    data_ = bytes_ >= kLarge ? map() : aligned();
#else
    data_ = std::malloc(bytes_);
#endif
    if (data_ == nullptr) throw std::bad_alloc();
  }
  ~Pages() {
#if defined(__linux__)
    if (data_ != nullptr && bytes_ >= kLarge) {
      munmap(data_, mapped(bytes_));
      return;
    }
#endif
    std::free(data_);
  }
  Pages(Pages&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}
  Pages& operator=(Pages&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
    return *this;
  }

  char* data() const { return static_cast<char*>(data_); }
  std::size_t bytes() const { return bytes_; }

 private:
#if defined(__linux__)
  static constexpr std::size_t kLine = 64, kSmall = 4 << 10, kLarge = 1 << 20, kHuge = 2 << 20;

  static std::size_t mapped(std::size_t bytes) { return (bytes + kSmall - 1) / kSmall * kSmall; }

  void* aligned() const {
    void* memory = nullptr;
    return posix_memalign(&memory, kLine, bytes_) == 0 ? memory : nullptr;
  }
  // A huge page begins at a multiple of its size: what lies before and behind is given back.
  void* map() const {
    const std::size_t wanted = mapped(bytes_), room = wanted + kHuge;
    void* const all =
        mmap(nullptr, room, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (all == MAP_FAILED) return nullptr;
    char* const begin = static_cast<char*>(all);
    const std::size_t before = (kHuge - reinterpret_cast<std::size_t>(begin) % kHuge) % kHuge;
    if (before > 0) munmap(begin, before);
    if (before < kHuge) munmap(begin + before + wanted, kHuge - before);
    advise_huge(begin + before, wanted);
    return begin + before;
  }
#endif

  void* data_ = nullptr;
  std::size_t bytes_ = 0;
};

}  // namespace subgrad
