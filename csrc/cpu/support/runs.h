// An operand's elements as kernels take them, one after another: in their place if they lie so
// there, else in a buffer. A layout that is null stands for one run.
#pragma once

#include <cstdint>

#include "cpu/support/layout.h"
#include "cpu/support/recycled.h"

namespace subgrad {

// Of an operand that is written.
class Run {
 public:
  static constexpr std::int64_t kMost = 512;  // elements: three buffers of at most 4 KiB stay in L1

  Run(const Layout* layout, Operand operand);

  // The elements [begin, begin + n), counted in the layout's order; null without an array. They are
  // not copied to the buffer unless they are read.
  char* load(std::int64_t begin, std::int64_t n, bool read = true) {
    if (operand_.base == nullptr) return nullptr;
    if (packed_from_ == nullptr) return operand_.base + begin * operand_.size;
    if (read) pack(*packed_from_, operand_, begin, n, packed_);
    return packed_;
  }

  // Where load() gave a buffer, its elements go back.
  void store(std::int64_t begin, std::int64_t n) {
    if (operand_.base != nullptr && packed_from_ != nullptr) {
      unpack(*packed_from_, operand_, begin, n, packed_);
    }
  }

 private:
  Operand operand_;
  const Layout* packed_from_;  // null where elements are taken in their place
  alignas(64) char packed_[kMost * sizeof(double)];
};

// Of an operand that is read, upwards. Where neighbours in memory are a row apart in the layout's
// order, as in a transposed matrix, several rows are packed ahead: a line of memory then gives all
// that it holds when it is read.
class RunAhead {
 public:
  // `most`: the elements of a load.
  RunAhead(const Layout* layout, Operand operand, std::int64_t most);

  // The elements [begin, begin + n); of those before `end` some may be packed ahead.
  const char* load(std::int64_t begin, std::int64_t n, std::int64_t end) {
    if (packed_from_ == nullptr) return operand_.base + begin * operand_.size;
    if (begin < begin_ || begin + n > end_) fill(begin, end);
    return packed_.data() + (begin - begin_) * operand_.size;
  }

 private:
  void fill(std::int64_t begin, std::int64_t end);

  Operand operand_;
  const Layout* packed_from_;  // null where elements are taken in their place
  std::int64_t window_ = 0;
  std::int64_t begin_ = 0, end_ = 0;  // what the buffer holds
  Recycled<char> packed_;
};

}  // namespace subgrad
