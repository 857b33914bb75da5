// AVX-512: eight 64-bit integers a register.
#pragma once

#include <immintrin.h>

#include "core/bits.h"

namespace subgrad {
inline namespace SGF_ISA {

struct U64 {
  using Lane = std::uint64_t;
  __m512i v;
  static SGF_INLINE U64 splat(Lane x) { return {_mm512_set1_epi64(static_cast<long long>(x))}; }
};

SGF_INLINE U64 add(U64 a, U64 b) { return {_mm512_add_epi64(a.v, b.v)}; }
SGF_INLINE U64 bit_xor(U64 a, U64 b) { return {_mm512_xor_si512(a.v, b.v)}; }
SGF_INLINE U64 bit_and(U64 a, U64 b) { return {_mm512_and_si512(a.v, b.v)}; }
SGF_INLINE U64 bit_or(U64 a, U64 b) { return {_mm512_or_si512(a.v, b.v)}; }
SGF_INLINE U64 mul32(U64 a, U64 b) { return {_mm512_mul_epu32(a.v, b.v)}; }
SGF_INLINE U64 shift_left(U64 a, int n) { return {_mm512_sll_epi64(a.v, _mm_cvtsi32_si128(n))}; }
SGF_INLINE U64 shift_right(U64 a, int n) { return {_mm512_srl_epi64(a.v, _mm_cvtsi32_si128(n))}; }

struct U64Memory {
  static constexpr int width = 8;
  static SGF_INLINE U64 load(const std::uint64_t* p) { return {_mm512_loadu_si512(p)}; }
  static SGF_INLINE void store(std::uint64_t* p, U64 x) { _mm512_storeu_si512(p, x.v); }
  // a0 b0 a1 b1 ...
  static SGF_INLINE void store_pairs(std::uint64_t* p, U64 a, U64 b) {
    const __m512i first = _mm512_setr_epi64(0, 8, 1, 9, 2, 10, 3, 11);
    const __m512i second = _mm512_setr_epi64(4, 12, 5, 13, 6, 14, 7, 15);
    store(p, {_mm512_permutex2var_epi64(a.v, first, b.v)});
    store(p + 8, {_mm512_permutex2var_epi64(a.v, second, b.v)});
  }
};

}  // namespace SGF_ISA
}  // namespace subgrad
