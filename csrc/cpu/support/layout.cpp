#include "cpu/support/layout.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <type_traits>

namespace subgrad {
namespace {

// A position in a layout, advanced run by run along the innermost dimension.
class Cursor {
 public:
  Cursor(const Layout& layout, std::int64_t element) : dims_(layout.dims) {
    index_.resize(dims_.size());
    for (std::size_t d = dims_.size(); d-- > 0;) {
      index_[d] = element % dims_[d].size;
      element /= dims_[d].size;
    }
  }

  // Elements left in the current run of the innermost dimension.
  std::int64_t run() const { return dims_.back().size - index_.back(); }

  std::int64_t offset(std::int64_t Layout::Dim::* stride) const {
    std::int64_t bytes = 0;
    for (std::size_t d = 0; d < dims_.size(); ++d) bytes += index_[d] * (dims_[d].*stride);
    return bytes;
  }

  // Rows of the innermost dimension that follow one another along the next one, this one included.
  std::int64_t rows() const {
    const std::size_t d = dims_.size() - 2;
    return dims_[d].size - index_[d];
  }

  // From the beginning of a row to that of another, n <= rows() rows on.
  void advance_rows(std::int64_t n) {
    index_[dims_.size() - 2] += n - 1;
    advance(run());
  }

  // Steps n <= run() elements on.
  void advance(std::int64_t n) {
    index_.back() += n;
    for (std::size_t d = dims_.size() - 1; d > 0 && index_[d] == dims_[d].size; --d) {
      index_[d] = 0;
      ++index_[d - 1];
    }
  }

 private:
  const std::vector<Layout::Dim>& dims_;
  std::vector<std::int64_t> index_;
};

// Copies n elements of `Size` bytes between two strided runs. memcpy, since neither side need be
// aligned.
template <std::size_t Size>
void copy_run(char* to, std::int64_t to_stride, const char* from, std::int64_t from_stride,
              std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i)
    std::memcpy(to + i * to_stride, from + i * from_stride, Size);
}

constexpr std::int64_t kTile = 16;  // rows and columns

// Copies a tile to rows that are `row_bytes` apart, from columns that are `across` apart and whose
// elements are neighbours. Each column is read once and each row written once: both may lie so that
// they displace each other from the cache.
template <std::size_t Size>
void copy_tile(char* to, std::int64_t row_bytes, const char* from, std::int64_t across,
               std::int64_t rows, std::int64_t columns) {
  char tile[kTile][kTile][Size];
  const auto copy = [&](auto tall, auto wide) {
    for (std::int64_t c = 0; c < wide; ++c) {
      std::memcpy(tile[c], from + c * across, static_cast<std::size_t>(tall) * Size);
    }
    for (std::int64_t r = 0; r < tall; ++r) {
      for (std::int64_t c = 0; c < wide; ++c) {
        std::memcpy(to + r * row_bytes + c * std::int64_t{Size}, tile[c][r], Size);
      }
    }
  };
  constexpr std::integral_constant<std::int64_t, kTile> whole;
  if (rows == kTile && columns == kTile) return copy(whole, whole);
  copy(rows, columns);
}

using CopyTile = void (*)(char*, std::int64_t, const char*, std::int64_t, std::int64_t,
                          std::int64_t);

CopyTile copy_tile_of(std::int64_t size) {
  return size == 8   ? copy_tile<8>
         : size == 4 ? copy_tile<4>
         : size == 2 ? copy_tile<2>
                     : copy_tile<1>;
}

using CopyRun = void (*)(char*, std::int64_t, const char*, std::int64_t, std::int64_t);

CopyRun copy_run_of(std::int64_t size) {
  return size == 8 ? copy_run<8> : size == 4 ? copy_run<4> : size == 2 ? copy_run<2> : copy_run<1>;
}

// Calls visit(elements, stride, packed, count) for each run of the innermost dimension among the
// elements [begin, begin + n).
template <class Visit>
void each_run(const Layout& layout, Operand operand, std::int64_t begin, std::int64_t n,
              char* packed, const Visit& visit) {
  if (layout.dims.empty()) {  // one element, which is not aligned
    visit(operand.base, 0, packed, n);
    return;
  }
  Cursor cursor(layout, begin);
  const std::int64_t inner = layout.dims.back().*operand.stride;
  for (std::int64_t done = 0; done < n;) {
    const std::int64_t k = std::min(cursor.run(), n - done);
    visit(operand.base + cursor.offset(operand.stride), inner, packed + done * operand.size, k);
    cursor.advance(k);
    done += k;
  }
}

// As pack(), of an operand whose elements are neighbours in memory along the second dimension:
// whole rows go tile by tile, and each line of memory is read once.
void pack_tiles(const Layout& layout, Operand operand, std::int64_t begin, std::int64_t n, char* to,
                CopyRun copy) {
  const CopyTile copy_tile = copy_tile_of(operand.size);
  const Layout::Dim& inner = layout.dims.back();
  const std::int64_t across = inner.*operand.stride, columns = inner.size;
  Cursor cursor(layout, begin);
  for (std::int64_t done = 0; done < n;) {
    const char* const from = operand.base + cursor.offset(operand.stride);
    char* const packed = to + done * operand.size;
    const std::int64_t k = std::min(cursor.run(), n - done);
    if (k < columns) {  // a part of a row
      copy(packed, operand.size, from, across, k);
      cursor.advance(k);
      done += k;
      continue;
    }
    const std::int64_t rows = std::min(cursor.rows(), (n - done) / columns);
    for (std::int64_t c = 0; c < columns; c += kTile) {
      for (std::int64_t r = 0; r < rows; r += kTile) {
        copy_tile(packed + (r * columns + c) * operand.size, columns * operand.size,
                  from + r * operand.size + c * across, across, std::min(kTile, rows - r),
                  std::min(kTile, columns - c));
      }
    }
    cursor.advance_rows(rows);
    done += rows * columns;
  }
}

}  // namespace

Layout::Layout(int ndim, const std::int64_t* shape, const std::int64_t* param_strides,
               const std::int64_t* grad_strides, const std::int64_t* momentum_strides,
               bool row_major) {
  std::vector<Dim> sorted;
  for (int d = 0; d < ndim; ++d) {
    if (shape[d] == 1) continue;  // its stride says nothing
    sorted.push_back({shape[d], param_strides[d], grad_strides[d], momentum_strides[d]});
  }
  if (!row_major) {
    std::stable_sort(sorted.begin(), sorted.end(), [](const Dim& a, const Dim& b) {
      return std::abs(a.param_stride) > std::abs(b.param_stride);
    });
  }
  const auto continues = [](std::int64_t outer, const Dim& inner, std::int64_t stride) {
    return outer == inner.size * stride;
  };
  for (const Dim& dim : sorted) {
    if (!dims.empty()) {
      Dim& outer = dims.back();
      if (continues(outer.param_stride, dim, dim.param_stride) &&
          continues(outer.grad_stride, dim, dim.grad_stride) &&
          continues(outer.momentum_stride, dim, dim.momentum_stride)) {
        outer = {outer.size * dim.size, dim.param_stride, dim.grad_stride, dim.momentum_stride};
        continue;
      }
    }
    dims.push_back(dim);
  }
}

bool Layout::contiguous(std::int64_t param_size, std::int64_t grad_size,
                        std::int64_t momentum_size) const {
  return dims.empty() ||
         (dims.size() == 1 && dims[0].param_stride == param_size &&
          dims[0].grad_stride == grad_size && dims[0].momentum_stride == momentum_size);
}

bool lies_in_order(const Layout& layout, const Operand& operand) {
  if (reinterpret_cast<std::uintptr_t>(operand.base) % static_cast<std::size_t>(operand.size) != 0)
    return false;
  std::int64_t stride = operand.size;
  for (auto dim = layout.dims.rbegin(); dim != layout.dims.rend(); ++dim) {
    if ((*dim).*operand.stride != stride) return false;
    stride *= dim->size;
  }
  return true;
}

bool crosses_rows(const Layout& layout, const Operand& operand) {
  const std::size_t dims = layout.dims.size();
  return dims > 1 && layout.dims[dims - 2].*operand.stride == operand.size &&
         layout.dims[dims - 1].*operand.stride != operand.size;
}

void pack(const Layout& layout, Operand operand, std::int64_t begin, std::int64_t n, void* to) {
  const CopyRun copy = copy_run_of(operand.size);
  if (crosses_rows(layout, operand)) {
    pack_tiles(layout, operand, begin, n, static_cast<char*>(to), copy);
    return;
  }
  each_run(layout, operand, begin, n, static_cast<char*>(to),
           [&](char* elements, std::int64_t stride, char* packed, std::int64_t count) {
             copy(packed, operand.size, elements, stride, count);
           });
}

void unpack(const Layout& layout, Operand operand, std::int64_t begin, std::int64_t n,
            const void* from) {
  const CopyRun copy = copy_run_of(operand.size);
  each_run(layout, operand, begin, n, const_cast<char*>(static_cast<const char*>(from)),
           [&](char* elements, std::int64_t stride, char* packed, std::int64_t count) {
             copy(elements, stride, packed, operand.size, count);
           });
}

}  // namespace subgrad
