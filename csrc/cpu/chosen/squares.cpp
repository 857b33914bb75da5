#include <algorithm>
#include <cstring>

#include "cpu/chosen/chosen.h"
#include "cpu/clip/blocks.h"
#include "cpu/support/hints.h"
#include "cpu/support/share.h"

namespace subgrad {
namespace {

std::int64_t bytes_of(DType type) { return static_cast<std::int64_t>(size_of(type)); }

// A chosen element as the dense step would count it, and where its gradient lies.
struct Counted {
  std::int64_t position, place;
};

// Elements of a tensor with a layout in the order of their positions, which is that in memory.
Recycled<Counted> in_order(const ChosenTensor& t) {
  Recycled<Counted> all(static_cast<std::size_t>(t.indices.n));
  for (std::int64_t i = 0; i < t.indices.n; ++i) {
    std::int64_t rest = t.indices[i];
    Counted& element = all[static_cast<std::size_t>(i)];
    element = {0, 0};
    for (auto dim = t.layout->dims.rbegin(); dim != t.layout->dims.rend(); ++dim) {
      const std::int64_t along = rest % dim->size;
      rest /= dim->size;
      element.position += along * dim->momentum_stride;
      element.place += along * dim->grad_stride;
    }
  }
  const auto before = [](const Counted& a, const Counted& b) { return a.position < b.position; };
  if (!std::is_sorted(all.begin(), all.end(), before)) std::sort(all.begin(), all.end(), before);
  return all;
}

// The elements of a block, each in the sum that it goes to: those of a sum one below the other, in
// their order. Zeros fill the rows up, which add nothing to a sum of squares.
class Rows {
 public:
  explicit Rows(DType type) : size_(size_of(type)) {}

  void clear() {
    std::fill_n(heights_, kSquareSums, 0);
    rows_ = 0;
  }
  void add(std::int64_t position, const char* element) {
    const auto sum = static_cast<std::size_t>(position % kSquareSums);
    const std::size_t row = heights_[sum]++;
    if (row == rows_) std::memset(bytes_ + rows_++ * kSquareSums * size_, 0, kSquareSums * size_);
    std::memcpy(bytes_ + (row * kSquareSums + sum) * size_, element, size_);
  }
  const char* data() const { return bytes_; }
  std::int64_t elements() const { return static_cast<std::int64_t>(rows_) * kSquareSums; }

 private:
  std::size_t size_, rows_ = 0;
  std::size_t heights_[kSquareSums];
  alignas(64) char bytes_[kNormBlock * sizeof(double)];
};

// The elements of a tensor as they are added up, and where their gradients lie.
class Order {
 public:
  Order(const ChosenTensor& tensor, const Recycled<Counted>& sorted)
      : t_(tensor), sorted_(sorted), size_(bytes_of(kDenseTypes[tensor.types].grad)) {}

  std::int64_t position(std::int64_t i) const {
    return t_.layout == nullptr ? t_.indices[i] : sorted_[static_cast<std::size_t>(i)].position;
  }
  std::int64_t block(std::int64_t i) const { return position(i) / kNormBlock; }
  const char* gradient(std::int64_t i) const {
    const std::int64_t place =
        t_.layout == nullptr ? t_.indices[i] * size_ : sorted_[static_cast<std::size_t>(i)].place;
    return static_cast<const char*>(t_.grad) + place;
  }

 private:
  const ChosenTensor& t_;
  const Recycled<Counted>& sorted_;
  std::int64_t size_;
};

// What visit(i, data, n, dtype) gives for each block with chosen elements, at the first of them; 0
// at the others.
template <class Visit>
Recycled<double> by_block(const std::vector<ChosenTensor>& tensors,
                          const std::vector<Recycled<Counted>>& sorted, const Visit& visit) {
  constexpr std::int64_t kAhead = 32;  // elements
  std::vector<std::size_t> offsets;
  std::size_t size = 0;
  for (const ChosenTensor& t : tensors) {
    offsets.push_back(size);
    size += static_cast<std::size_t>(t.indices.n);
  }
  Recycled<double> found(size);
  const auto load_of = [&](std::size_t i) { return Load{tensors[i].indices.n, 2 * kLineBytes}; };
  share_work(tensors.size(), load_of, [&](std::size_t i, std::int64_t begin, std::int64_t end) {
    const std::int64_t count = tensors[i].indices.n;
    const Order order(tensors[i], sorted[i]);
    const DType dtype = kDenseTypes[tensors[i].types].grad;
    Rows rows(dtype);
    // A block is added up where it begins.
    while (begin < end && begin > 0 && order.block(begin) == order.block(begin - 1)) ++begin;
    while (begin < end) {
      const std::int64_t block = order.block(begin);
      rows.clear();
      std::int64_t at = begin;
      for (; at < count && order.block(at) == block; ++at) {
        if (at + kAhead < count) hint(order.gradient(at + kAhead));
        rows.add(order.position(at), order.gradient(at));
      }
      found[offsets[i] + static_cast<std::size_t>(begin)] =
          visit(i, rows.data(), rows.elements(), dtype);
      begin = at;
    }
  });
  return found;
}

}  // namespace

SquareSums square_sums(const std::vector<ChosenTensor>& tensors) {
  std::vector<Recycled<Counted>> sorted;
  for (const ChosenTensor& t : tensors) {
    sorted.push_back(t.layout != nullptr ? in_order(t) : Recycled<Counted>());
  }
  return add_squares(
      tensors.size(),
      [&](std::size_t i) {
        return InBlocks{kDenseTypes[tensors[i].types].grad, tensors[i].indices.n};
      },
      [&](const auto& visit) { return by_block(tensors, sorted, visit); });
}

}  // namespace subgrad
