// Integer lane arithmetic for plain 64-bit unsigned integers: what generators and permutations may
// ask of their value type. The register wrappers in cpu/simd/ offer the same names.
#pragma once

#include <cstdint>

#include "core/macros.h"
#include "core/math.h"

#if defined(_MSC_VER) && !defined(__CUDA_ARCH__)
#include <intrin.h>
#endif

namespace subgrad {
inline namespace SGF_ISA {

template <>
struct LaneOf<std::uint64_t> {
  using type = std::uint64_t;
};
template <>
struct Splat<std::uint64_t> {
  static SGF_HD std::uint64_t of(std::uint64_t x) { return x; }
};

SGF_HD std::uint64_t add(std::uint64_t a, std::uint64_t b) { return a + b; }
SGF_HD std::uint64_t bit_xor(std::uint64_t a, std::uint64_t b) { return a ^ b; }
SGF_HD std::uint64_t bit_and(std::uint64_t a, std::uint64_t b) { return a & b; }
SGF_HD std::uint64_t bit_or(std::uint64_t a, std::uint64_t b) { return a | b; }
SGF_HD std::uint64_t shift_left(std::uint64_t a, int count) { return a << count; }
SGF_HD std::uint64_t shift_right(std::uint64_t a, int count) { return a >> count; }

// The 64-bit product of the lower halves of a and b; the upper halves may hold anything.
SGF_HD std::uint64_t mul32(std::uint64_t a, std::uint64_t b) {
  return (a & 0xffffffffu) * (b & 0xffffffffu);
}

// The 128-bit product of a and b.
struct Product {
  std::uint64_t high, low;
};
SGF_HD Product mul_wide(std::uint64_t a, std::uint64_t b) {
#if defined(__CUDA_ARCH__)
  return {__umul64hi(a, b), a * b};
#elif defined(_MSC_VER)
  return {__umulh(a, b), a * b};
#else
  __extension__ using Wide = unsigned __int128;
  const Wide product = static_cast<Wide>(a) * b;
  return {static_cast<std::uint64_t>(product >> 64), static_cast<std::uint64_t>(product)};
#endif
}

// How many bits are needed to count to n - 1: 2^ceil_log2(n) >= n.
SGF_HD int ceil_log2(std::uint64_t n) {
  int bits = 0;
  while (bits < 64 && (n - 1) >> bits != 0) ++bits;
  return bits;
}

}  // namespace SGF_ISA
}  // namespace subgrad
