// AVX2: four 64-bit integers a register.
#pragma once

#include <immintrin.h>

#include "core/bits.h"

namespace subgrad {
inline namespace SGF_ISA {

struct U64 {
  using Lane = std::uint64_t;
  __m256i v;
  static SGF_INLINE U64 splat(Lane x) { return {_mm256_set1_epi64x(static_cast<long long>(x))}; }
};

SGF_INLINE U64 add(U64 a, U64 b) { return {_mm256_add_epi64(a.v, b.v)}; }
SGF_INLINE U64 bit_xor(U64 a, U64 b) { return {_mm256_xor_si256(a.v, b.v)}; }
SGF_INLINE U64 bit_and(U64 a, U64 b) { return {_mm256_and_si256(a.v, b.v)}; }
SGF_INLINE U64 bit_or(U64 a, U64 b) { return {_mm256_or_si256(a.v, b.v)}; }
SGF_INLINE U64 mul32(U64 a, U64 b) { return {_mm256_mul_epu32(a.v, b.v)}; }
SGF_INLINE U64 shift_left(U64 a, int n) { return {_mm256_sll_epi64(a.v, _mm_cvtsi32_si128(n))}; }
SGF_INLINE U64 shift_right(U64 a, int n) { return {_mm256_srl_epi64(a.v, _mm_cvtsi32_si128(n))}; }

struct U64Memory {
  static constexpr int width = 4;
  static SGF_INLINE U64 load(const std::uint64_t* p) {
    return {_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p))};
  }
  static SGF_INLINE void store(std::uint64_t* p, U64 x) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), x.v);
  }
  // a0 b0 a1 b1 ...
  static SGF_INLINE void store_pairs(std::uint64_t* p, U64 a, U64 b) {
    const __m256i even = _mm256_unpacklo_epi64(a.v, b.v);  // a0 b0 a2 b2
    const __m256i odd = _mm256_unpackhi_epi64(a.v, b.v);   // a1 b1 a3 b3
    store(p, {_mm256_permute2x128_si256(even, odd, 0x20)});
    store(p + 4, {_mm256_permute2x128_si256(even, odd, 0x31)});
  }
};

}  // namespace SGF_ISA
}  // namespace subgrad
