#include "cpu/support/recycled.h"

namespace subgrad {
namespace {

// Blocks are of 1 KiB, 2 KiB ... 64 KiB; what is larger costs more to fill than to ask for.
constexpr std::size_t kSmallest = 1 << 10;
constexpr int kSizes = 7, kKept = 8;  // kept: of each size

struct Blocks {
  void* free[kSizes][kKept];
  int count[kSizes] = {};

  ~Blocks() {
    for (int size = 0; size < kSizes; ++size) {
      while (count[size] > 0) ::operator delete(free[size][--count[size]]);
    }
  }
};

thread_local Blocks blocks;

// The number of the smallest size that holds so many bytes; kSizes if none does.
int size_for(std::size_t bytes) {
  int size = 0;
  while (size < kSizes && (kSmallest << size) < bytes) ++size;
  return size;
}

}  // namespace

void* take_recycled(std::size_t bytes) {
  const int size = size_for(bytes);
  if (size == kSizes) return ::operator new(bytes);
  int& count = blocks.count[size];
  return count > 0 ? blocks.free[size][--count] : ::operator new(kSmallest << size);
}

void give_recycled(void* block, std::size_t bytes) noexcept {
  const int size = size_for(bytes);
  if (size == kSizes || blocks.count[size] == kKept) return ::operator delete(block);
  blocks.free[size][blocks.count[size]++] = block;
}

}  // namespace subgrad
