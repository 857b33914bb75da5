#include "cpu/support/narrow.h"

#include <algorithm>

#include "cpu/support/layout.h"
#include "cpu/support/share.h"

namespace subgrad {
namespace {

void narrow_run(const double* from, std::int64_t n, float* to) {
  for (std::int64_t i = 0; i < n; ++i) to[i] = static_cast<float>(from[i]);
}

void narrow_packed(const void* from, const Layout& layout, std::int64_t begin, std::int64_t end,
                   float* to) {
  constexpr std::int64_t kBlock = 512;
  const Operand operand(const_cast<void*>(from), &Layout::Dim::grad_stride, DType::f64);
  double packed[kBlock];
  for (std::int64_t i = begin; i < end; i += kBlock) {
    const std::int64_t n = std::min(kBlock, end - i);
    pack(layout, operand, i, n, packed);
    narrow_run(packed, n, to + i);
  }
}

}  // namespace

void narrow_f64(const void* from, const Layout* layout, std::int64_t n, float* to) {
  constexpr std::int64_t bytes = sizeof(double) + sizeof(float);
  share_work(
      1, [&](std::size_t) { return Load{n, bytes, kSplitElements}; },
      [&](std::size_t, std::int64_t begin, std::int64_t end) {
        if (layout != nullptr) return narrow_packed(from, *layout, begin, end, to);
        narrow_run(static_cast<const double*>(from) + begin, end - begin, to + begin);
      });
}

}  // namespace subgrad
