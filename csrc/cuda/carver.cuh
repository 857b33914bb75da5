// Scratch memory, which a caller allocates and a launcher cuts.
#pragma once

#include <cstddef>
#include <cstdint>

namespace subgrad {

// Cuts scratch memory into arrays; from null it only adds up their bytes.
class Carver {
 public:
  explicit Carver(void* base) : base_(static_cast<char*>(base)) {}

  template <class T>
  T* take(std::int64_t count) {
    void* const at = base_ == nullptr ? nullptr : base_ + bytes_;
    bytes_ += (static_cast<std::size_t>(count) * sizeof(T) + 255) / 256 * 256;
    return static_cast<T*>(at);
  }
  std::size_t bytes() const { return bytes_; }

 private:
  char* base_;
  std::size_t bytes_ = 0;
};

}  // namespace subgrad
