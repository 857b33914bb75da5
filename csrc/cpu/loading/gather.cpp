#include "cpu/loading/gather.h"

#include <algorithm>
#include <cstring>

#include "cpu/support/hints.h"

namespace subgrad {
namespace {

// `bytes`: the size of a row where the compiler should know it, so that a copy is a few registers
// and not a call; 0 where memcpy, which has the machine's widest registers, does better.
template <std::int64_t bytes>
void copy_rows(const RowSource& source, char* out, const std::int64_t* indices, std::int64_t n) {
  const std::int64_t row_bytes = bytes != 0 ? bytes : source.row_bytes;
  const auto row = [&](std::int64_t i) { return source.data + indices[i] * source.stride; };
  const auto copy = [&](std::int64_t i) {
    std::memcpy(out + i * row_bytes, row(i), static_cast<std::size_t>(row_bytes));
  };
  const std::int64_t ahead = std::min(rows_ahead(row_bytes), n);
  for (std::int64_t i = 0; i < ahead; ++i) hint_row(row(i), row_bytes);
  for (std::int64_t i = 0; i < n - ahead; ++i) {
    hint_row(row(i + ahead), row_bytes);
    copy(i);
  }
  for (std::int64_t i = n - ahead; i < n; ++i) copy(i);
}

}  // namespace

void gather_rows(const RowSource& source, char* out, const std::int64_t* indices, std::int64_t n) {
  switch (source.row_bytes) {
    case 0:
      return;
    case 1:
      return copy_rows<1>(source, out, indices, n);
    case 2:
      return copy_rows<2>(source, out, indices, n);
    case 4:
      return copy_rows<4>(source, out, indices, n);
    case 8:
      return copy_rows<8>(source, out, indices, n);
    case 16:
      return copy_rows<16>(source, out, indices, n);
    case 32:
      return copy_rows<32>(source, out, indices, n);
    case 64:
      return copy_rows<64>(source, out, indices, n);
    case 128:
      return copy_rows<128>(source, out, indices, n);
    case 256:
      return copy_rows<256>(source, out, indices, n);
    default:
      return copy_rows<0>(source, out, indices, n);
  }
}

std::int64_t first_outside(const std::int64_t* indices, std::int64_t n, std::int64_t rows) {
  const auto outside = [&](std::int64_t i) {
    return static_cast<std::uint64_t>(indices[i]) >= static_cast<std::uint64_t>(rows);
  };
  bool any = false;  // without an exit the loop becomes vector code
  for (std::int64_t i = 0; i < n; ++i) any |= outside(i);
  if (!any) return -1;
  std::int64_t i = 0;
  while (!outside(i)) ++i;
  return i;
}

}  // namespace subgrad
