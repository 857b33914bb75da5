// Arrays that are not one contiguous run: their elements are copied in blocks to contiguous
// buffers, stepped there by the same kernels, and copied back. Same bits, no second copy of any
// formula.
#pragma once

#include <cstdint>
#include <vector>

#include "core/types.h"

namespace subgrad {

// Shape and byte strides of one tensor's parameter, gradient and momentum, dimensions ordered from
// the outermost to the innermost in memory (of the parameter) or as they are (row-major), with runs
// that all three share merged.
struct Layout {
  struct Dim {
    std::int64_t size;
    std::int64_t param_stride, grad_stride, momentum_stride;  // bytes
  };
  std::vector<Dim> dims;

  Layout(int ndim, const std::int64_t* shape, const std::int64_t* param_strides,
         const std::int64_t* grad_strides, const std::int64_t* momentum_strides,
         bool row_major = false);

  // Whether every operand is one contiguous run in the same order, given the element sizes.
  bool contiguous(std::int64_t param_size, std::int64_t grad_size,
                  std::int64_t momentum_size) const;
};

// One operand of a layout: where it begins, which strides are its own, the size of its elements.
struct Operand {
  char* base;
  std::int64_t Layout::Dim::* stride;
  std::int64_t size;

  Operand(void* data, std::int64_t Layout::Dim::* stride_of, DType type)
      : base(static_cast<char*>(data)),
        stride(stride_of),
        size(static_cast<std::int64_t>(size_of(type))) {}
};

// Copies an operand's elements [begin, begin + n), counted in the layout's order, to contiguous
// memory, or from there.
void pack(const Layout& layout, Operand operand, std::int64_t begin, std::int64_t n, void* to);
void unpack(const Layout& layout, Operand operand, std::int64_t begin, std::int64_t n,
            const void* from);

// Whether an operand's elements lie one after another in the layout's order, where kernels may read
// and write them.
bool lies_in_order(const Layout& layout, const Operand& operand);

// Whether an operand is transposed: its elements are neighbours along the second innermost
// dimension of the layout.
bool crosses_rows(const Layout& layout, const Operand& operand);

}  // namespace subgrad
