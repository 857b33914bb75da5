// Bytes that are appended where nothing may be thrown: inside a parallel region.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <memory>

#include "cpu/large_array.h"

namespace subgrad {

class GrowingBytes {
 public:
  const char* data() const { return data_.get(); }
  std::size_t size() const { return size_; }

  // False, and nothing appended, if there is no memory.
  bool append(const void* bytes, std::size_t count) noexcept {
    if (count == 0) return true;
    if (size_ + count > capacity_) {
      const std::size_t wanted = std::max(size_ + count, 2 * capacity_);
      void* grown = std::realloc(data_.get(), wanted);
      if (grown == nullptr) return false;
      data_.release();
      data_.reset(static_cast<char*>(grown));
      capacity_ = wanted;
    }
    std::memcpy(data_.get() + size_, bytes, count);
    size_ += count;
    return true;
  }

 private:
  std::unique_ptr<char[], FreeMemory> data_;
  std::size_t size_ = 0, capacity_ = 0;
};

}  // namespace subgrad
