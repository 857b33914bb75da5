// The portable "register" of 64-bit integers: one lane.
#pragma once

#include "core/bits.h"

namespace subgrad {
inline namespace SGF_ISA {

using U64 = std::uint64_t;

struct U64Memory {
  static constexpr int width = 1;
  static SGF_INLINE U64 load(const std::uint64_t* p) { return *p; }
  static SGF_INLINE void store(std::uint64_t* p, U64 x) { *p = x; }
  // a0 b0 a1 b1 ...
  static SGF_INLINE void store_pairs(std::uint64_t* p, U64 a, U64 b) {
    p[0] = a;
    p[1] = b;
  }
};

}  // namespace SGF_ISA
}  // namespace subgrad
