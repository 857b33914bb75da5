#include "cpu/support/layout.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>

namespace subgrad {
namespace {

constexpr std::int64_t kBlock = 512;  // elements: three buffers of at most 4 KiB stay in L1

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

void pack(const Layout& layout, Operand operand, std::int64_t begin, std::int64_t n, void* to) {
  const CopyRun copy = copy_run_of(operand.size);
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

void step_strided(const Layout& layout, DenseKernel kernel, const DenseTypes& types, void* param,
                  const void* grad, void* momentum, const SgdParams& params, double scale,
                  std::int64_t begin, std::int64_t end) {
  using Dim = Layout::Dim;
  const Operand w(param, &Dim::param_stride, types.param);
  const Operand g(const_cast<void*>(grad), &Dim::grad_stride, types.grad);
  const Operand m(momentum, &Dim::momentum_stride, types.momentum);
  alignas(64) char packed_w[kBlock * 8], packed_g[kBlock * 8], packed_m[kBlock * 8];

  for (std::int64_t i = begin; i < end; i += kBlock) {
    const std::int64_t n = std::min(kBlock, end - i);
    pack(layout, w, i, n, packed_w);
    pack(layout, g, i, n, packed_g);
    if (momentum != nullptr) pack(layout, m, i, n, packed_m);
    kernel(packed_w, packed_g, momentum != nullptr ? packed_m : nullptr, n, params, scale);
    unpack(layout, w, i, n, packed_w);
    if (momentum != nullptr) unpack(layout, m, i, n, packed_m);
  }
}

}  // namespace subgrad
