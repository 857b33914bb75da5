// Bytes that grow where nothing may be thrown: inside a parallel region.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdlib>
#include <memory>

#include "cpu/support/large_array.h"

namespace subgrad {

class GrowingBytes {
 public:
  const char* data() const { return data_.get(); }
  std::size_t size() const { return size_; }

  // Where to write up to `count` bytes more; null if there is no memory. What of them is to stay is
  // then added.
  char* room(std::size_t count) noexcept {
    if (size_ + count > capacity_) {
      const std::size_t wanted = std::max(size_ + count, 2 * capacity_);
      void* grown = std::realloc(data_.get(), wanted);
      if (grown == nullptr) return nullptr;
      data_.release();
      data_.reset(static_cast<char*>(grown));
      capacity_ = wanted;
    }
    return data_.get() + size_;
  }
  void add(std::size_t count) noexcept { size_ += count; }

 private:
  std::unique_ptr<char[], FreeMemory> data_;
  std::size_t size_ = 0, capacity_ = 0;
};

}  // namespace subgrad
