#include "cpu/support/runs.h"

#include <algorithm>

namespace subgrad {
namespace {

const Layout* packed_from(const Layout* layout, const Operand& operand) {
  return layout == nullptr || lies_in_order(*layout, operand) ? nullptr : layout;
}

// Elements that are packed at once: whole rows, a few lines of memory's worth, so that a page is
// looked up once for several; but no more than half of a second-level cache holds.
std::int64_t window_of(const Layout& layout, const Operand& operand, std::int64_t most) {
  constexpr std::int64_t kLines = 256, kCached = 1 << 19;  // bytes
  if (!crosses_rows(layout, operand)) return most;
  const std::int64_t row = layout.dims.back().size;
  const std::int64_t rows = std::min(kLines, kCached / row) / operand.size;
  return std::max(most, rows * row);
}

}  // namespace

Run::Run(const Layout* layout, Operand operand)
    : operand_(operand), packed_from_(packed_from(layout, operand)) {}

RunAhead::RunAhead(const Layout* layout, Operand operand, std::int64_t most)
    : operand_(operand), packed_from_(packed_from(layout, operand)) {
  if (packed_from_ == nullptr) return;
  window_ = window_of(*packed_from_, operand_, most);
  packed_.resize(static_cast<std::size_t>(window_ * operand_.size));
}

void RunAhead::fill(std::int64_t begin, std::int64_t end) {
  begin_ = begin;
  end_ = std::min(end, begin + window_);
  pack(*packed_from_, operand_, begin_, end_ - begin_, packed_.data());
}

}  // namespace subgrad
