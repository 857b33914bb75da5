// Where chosen elements lie, chunk by chunk, and elements gathered from there and put back.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "core/macros.h"
#include "core/types.h"
#include "cpu/support/hints.h"
#include "cpu/support/layout.h"

namespace subgrad {

// Elements that are stepped at once. Their buffers stay in the first-level cache, and the lines of
// the chunk to come in the second.
inline constexpr std::int64_t kChosenChunk = 256;

// Which elements are chosen: ascending numbers of 4 or 8 bytes, which count row by row.
struct Indices {
  const void* data;
  bool narrow;
  std::int64_t n;

  std::int64_t operator[](std::int64_t i) const {
    return narrow ? static_cast<const std::int32_t*>(data)[i]
                  : static_cast<const std::int64_t*>(data)[i];
  }
};

// By element of a chunk, its distance in bytes from the first element of an operand.
struct Places {
  std::int64_t param[kChosenChunk], grad[kChosenChunk];
  std::int64_t n = 0;

  // The elements from `begin` on, up to a chunk of those before `end`. A null layout: both operands
  // are runs of elements of these sizes.
  void find(const Layout* layout, const Indices& indices, std::int64_t begin, std::int64_t end,
            std::int64_t param_size, std::int64_t grad_size) {
    n = std::clamp<std::int64_t>(end - begin, 0, kChosenChunk);
    if (layout == nullptr) {
      for (std::int64_t i = 0; i < n; ++i) {
        const std::int64_t index = indices[begin + i];
        param[i] = index * param_size;
        grad[i] = index * grad_size;
      }
      return;
    }
    for (std::int64_t i = 0; i < n; ++i) {
      std::int64_t rest = indices[begin + i];
      param[i] = grad[i] = 0;
      for (auto dim = layout->dims.rbegin(); dim != layout->dims.rend(); ++dim) {
        const std::int64_t along = rest % dim->size;
        rest /= dim->size;
        param[i] += along * dim->param_stride;
        grad[i] += along * dim->grad_stride;
      }
    }
  }
};

// Lines to be hinted at while others are gathered: more at once than there are buffers for would
// make everything wait.
struct Ahead {
  const char *param, *grad;
  const Places& places;
};

// By value, and told apart from what is written: else each element would wait for the one before.
// memcpy, since elements need not be aligned.
template <std::size_t Size>
void gather(const char* base, const std::int64_t* __restrict places, std::int64_t n,
            char* __restrict to) {
  for (std::int64_t i = 0; i < n; ++i) {
    std::memcpy(to + i * std::int64_t{Size}, base + places[i], Size);
  }
}
template <std::size_t Size>
void gather_hinting(const char* base, const std::int64_t* __restrict places, std::int64_t n,
                    char* __restrict to, Ahead ahead) {
  const Places& next = ahead.places;
  const std::int64_t both = std::min(n, next.n);
  for (std::int64_t i = 0; i < both; ++i) {
    hint(ahead.grad + next.grad[i]);
    hint(ahead.param + next.param[i]);
    std::memcpy(to + i * std::int64_t{Size}, base + places[i], Size);
  }
  gather<Size>(base, places + both, n - both, to + both * std::int64_t{Size});
}
template <std::size_t Size>
void scatter(char* __restrict base, const std::int64_t* __restrict places, std::int64_t n,
             const char* __restrict from) {
  for (std::int64_t i = 0; i < n; ++i) {
    std::memcpy(base + places[i], from + i * std::int64_t{Size}, Size);
  }
}

inline void gather_elements(const char* base, const std::int64_t* places, std::int64_t n,
                            DType type, char* to) {
  const std::size_t size = size_of(type);
  (size == 8 ? gather<8> : size == 4 ? gather<4> : gather<2>)(base, places, n, to);
}

inline void gather_elements(const char* base, const std::int64_t* places, std::int64_t n,
                            DType type, char* to, const Ahead& ahead) {
  const std::size_t size = size_of(type);
  (size == 8   ? gather_hinting<8>
   : size == 4 ? gather_hinting<4>
               : gather_hinting<2>)(base, places, n, to, ahead);
}

inline void scatter_elements(char* base, const std::int64_t* places, std::int64_t n, DType type,
                             const char* from) {
  const std::size_t size = size_of(type);
  (size == 8 ? scatter<8> : size == 4 ? scatter<4> : scatter<2>)(base, places, n, from);
}

}  // namespace subgrad
