// AVX-512 (F, BW, DQ, VL): 16 floats or 8 doubles a register. Tails are masked loads and stores,
// which touch no memory behind the mask.
#pragma once

#include <immintrin.h>

#include "core/macros.h"
#include "core/types.h"

namespace subgrad {
inline namespace SGF_ISA {

struct F32x16 {
  using Lane = float;
  __m512 v;
  static SGF_INLINE F32x16 splat(float x) { return {_mm512_set1_ps(x)}; }
};
struct F64x8 {
  using Lane = double;
  __m512d v;
  static SGF_INLINE F64x8 splat(double x) { return {_mm512_set1_pd(x)}; }
};

SGF_INLINE F32x16 fma(F32x16 a, F32x16 b, F32x16 c) { return {_mm512_fmadd_ps(a.v, b.v, c.v)}; }
SGF_INLINE F64x8 fma(F64x8 a, F64x8 b, F64x8 c) { return {_mm512_fmadd_pd(a.v, b.v, c.v)}; }
SGF_INLINE F32x16 mul(F32x16 a, F32x16 b) { return {_mm512_mul_ps(a.v, b.v)}; }
SGF_INLINE F64x8 mul(F64x8 a, F64x8 b) { return {_mm512_mul_pd(a.v, b.v)}; }
SGF_INLINE F32x16 sub(F32x16 a, F32x16 b) { return {_mm512_sub_ps(a.v, b.v)}; }
SGF_INLINE F64x8 sub(F64x8 a, F64x8 b) { return {_mm512_sub_pd(a.v, b.v)}; }
SGF_INLINE F32x16 clamp(F32x16 x, F32x16 low, F32x16 high) {
  return {_mm512_min_ps(_mm512_max_ps(x.v, low.v), high.v)};
}
SGF_INLINE F64x8 clamp(F64x8 x, F64x8 low, F64x8 high) {
  return {_mm512_min_pd(_mm512_max_pd(x.v, low.v), high.v)};
}
SGF_INLINE F32x16 within(F32x16 x, F32x16 low, F32x16 high) {
  return {_mm512_min_ps(high.v, _mm512_max_ps(low.v, x.v))};
}
SGF_INLINE F64x8 within(F64x8 x, F64x8 low, F64x8 high) {
  return {_mm512_min_pd(high.v, _mm512_max_pd(low.v, x.v))};
}

// 16 bf16 -> f32: the bits move up by 16. Back: round to nearest even in integers; the hardware's
// vcvtneps2bf16 flushes subnormals and so gives other bits.
SGF_INLINE __m512 bf16_to_f32(__m256i h) {
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(h), 16));
}
// Rounded, in the upper half of each lane; the lower half is not to be used, and NaN is for
// quiet_nan.
SGF_INLINE __m512i round_to_bf16(__m512 x) {
  const __m512i u = _mm512_castps_si512(x);
  const __mmask16 odd = _mm512_test_epi32_mask(u, _mm512_set1_epi32(0x10000));
  const __m512i rounded = _mm512_add_epi32(u, _mm512_set1_epi32(0x7fff));
  return _mm512_mask_add_epi32(rounded, odd, rounded, _mm512_set1_epi32(1));
}
SGF_INLINE __m512i quiet_nan(__m512 x, __m512i rounded) {
  return _mm512_mask_or_epi32(rounded, _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q),
                              _mm512_castps_si512(x), _mm512_set1_epi32(0x400000));
}
SGF_INLINE __m256i f32_to_bf16(__m512 x) {
  return _mm512_cvtepi32_epi16(_mm512_srli_epi32(quiet_nan(x, round_to_bf16(x)), 16));
}
SGF_INLINE __m256i f32_to_f16(__m512 x) {
  return _mm512_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
SGF_INLINE __m128i f32_to_f16(__m256 x) {
  return _mm256_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}

template <class C>
struct VecOf;
template <>
struct VecOf<float> {
  using type = F32x16;
};
template <>
struct VecOf<double> {
  using type = F64x8;
};
template <class C>
using Vec = typename VecOf<C>::type;

template <class V>
struct Memory;

template <>
struct Memory<F32x16> {
  static constexpr int width = 16;
  static SGF_INLINE __mmask16 first(int n) { return static_cast<__mmask16>((1u << n) - 1u); }

  static SGF_INLINE F32x16 load(const float* p) { return {_mm512_loadu_ps(p)}; }
  static SGF_INLINE F32x16 load(const float* p, int n) {
    return {_mm512_maskz_loadu_ps(first(n), p)};
  }
  static SGF_INLINE F32x16 load(const bf16* p) {
    return {bf16_to_f32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)))};
  }
  static SGF_INLINE F32x16 load(const bf16* p, int n) {
    return {bf16_to_f32(_mm256_maskz_loadu_epi16(first(n), p))};
  }
  static SGF_INLINE F32x16 load(const f16* p) {
    return {_mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)))};
  }
  static SGF_INLINE F32x16 load(const f16* p, int n) {
    return {_mm512_cvtph_ps(_mm256_maskz_loadu_epi16(first(n), p))};
  }

  static SGF_INLINE void store(float* p, F32x16 x) { _mm512_storeu_ps(p, x.v); }
  static SGF_INLINE void store(float* p, F32x16 x, int n) {
    _mm512_mask_storeu_ps(p, first(n), x.v);
  }
  static SGF_INLINE void store(bf16* p, F32x16 x) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), f32_to_bf16(x.v));
  }
  static SGF_INLINE void store(bf16* p, F32x16 x, int n) {
    _mm256_mask_storeu_epi16(p, first(n), f32_to_bf16(x.v));
  }
  // 32 bf16 by their places, even and odd: each is widened and rounded where it lies.
  static SGF_INLINE void load_halves(const bf16* p, F32x16& even, F32x16& odd) {
    const __m512i both = _mm512_loadu_si512(p);
    even = {_mm512_castsi512_ps(_mm512_slli_epi32(both, 16))};
    odd = {_mm512_castsi512_ps(_mm512_and_si512(both, _mm512_set1_epi32(~0xffff)))};
  }
  static SGF_INLINE void store_halves(bf16* p, F32x16 even, F32x16 odd) {
    __m512i low = round_to_bf16(even.v), high = round_to_bf16(odd.v);
    if (_mm512_cmp_ps_mask(even.v, odd.v, _CMP_UNORD_Q) != 0) {  // NaN, which is rare
      low = quiet_nan(even.v, low);
      high = quiet_nan(odd.v, high);
    }
    _mm512_storeu_si512(p, _mm512_mask_blend_epi16(0xaaaaaaaau, _mm512_srli_epi32(low, 16), high));
  }
  static SGF_INLINE void store(f16* p, F32x16 x) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), f32_to_f16(x.v));
  }
  static SGF_INLINE void store(f16* p, F32x16 x, int n) {
    _mm256_mask_storeu_epi16(p, first(n), f32_to_f16(x.v));
  }
};

template <>
struct Memory<F64x8> {
  static constexpr int width = 8;
  static SGF_INLINE __mmask8 first(int n) { return static_cast<__mmask8>((1u << n) - 1u); }
  static SGF_INLINE __m512d widen(__m256 x) { return _mm512_cvtps_pd(x); }
  static SGF_INLINE __m256 widen_bf16(__m128i h) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(h), 16));
  }

  static SGF_INLINE F64x8 load(const double* p) { return {_mm512_loadu_pd(p)}; }
  static SGF_INLINE F64x8 load(const double* p, int n) {
    return {_mm512_maskz_loadu_pd(first(n), p)};
  }
  static SGF_INLINE F64x8 load(const float* p) { return {widen(_mm256_loadu_ps(p))}; }
  static SGF_INLINE F64x8 load(const float* p, int n) {
    return {widen(_mm256_maskz_loadu_ps(first(n), p))};
  }
  static SGF_INLINE F64x8 load(const bf16* p) {
    return {widen(widen_bf16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))))};
  }
  static SGF_INLINE F64x8 load(const bf16* p, int n) {
    return {widen(widen_bf16(_mm_maskz_loadu_epi16(first(n), p)))};
  }
  static SGF_INLINE F64x8 load(const f16* p) {
    return {widen(_mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))))};
  }
  static SGF_INLINE F64x8 load(const f16* p, int n) {
    return {widen(_mm256_cvtph_ps(_mm_maskz_loadu_epi16(first(n), p)))};
  }

  static SGF_INLINE void store(double* p, F64x8 x) { _mm512_storeu_pd(p, x.v); }
  static SGF_INLINE void store(double* p, F64x8 x, int n) {
    _mm512_mask_storeu_pd(p, first(n), x.v);
  }
  static SGF_INLINE void store(float* p, F64x8 x) { _mm256_storeu_ps(p, _mm512_cvtpd_ps(x.v)); }
  static SGF_INLINE void store(float* p, F64x8 x, int n) {
    _mm256_mask_storeu_ps(p, first(n), _mm512_cvtpd_ps(x.v));
  }
};

struct Mask32x16 {
  __mmask16 m;
};
struct Mask64x8 {
  __mmask8 m;
};

SGF_INLINE Mask32x16 at_least(F32x16 x, std::uint32_t cut) {
  const __m512i bits = _mm512_and_si512(_mm512_castps_si512(x.v), _mm512_set1_epi32(0x7fffffff));
  return {_mm512_cmpge_epu32_mask(bits, _mm512_set1_epi32(static_cast<int>(cut)))};
}
SGF_INLINE Mask64x8 at_least(F64x8 x, std::uint64_t cut) {
  const __m512i bits =
      _mm512_and_si512(_mm512_castpd_si512(x.v), _mm512_set1_epi64(0x7fffffffffffffff));
  return {_mm512_cmpge_epu64_mask(bits, _mm512_set1_epi64(static_cast<long long>(cut)))};
}
SGF_INLINE F32x16 blend(Mask32x16 mask, F32x16 yes, F32x16 no) {
  return {_mm512_mask_blend_ps(mask.m, no.v, yes.v)};
}
SGF_INLINE F64x8 blend(Mask64x8 mask, F64x8 yes, F64x8 no) {
  return {_mm512_mask_blend_pd(mask.m, no.v, yes.v)};
}

// Lanes as bits of an integer: bit i is lane i.
SGF_INLINE unsigned lane_bits(Mask32x16 mask) { return mask.m; }
SGF_INLINE unsigned lane_bits(Mask64x8 mask) { return mask.m; }
SGF_INLINE int count_lanes(unsigned bits) { return __builtin_popcount(bits); }
SGF_INLINE int first_lane(unsigned bits) { return __builtin_ctz(bits); }

// The lanes of `bits` moved to the front, in their order; what lies behind them is anything. In a
// register: compressing into memory is microcoded on Zen 4.
SGF_INLINE F32x16 compact(F32x16 x, unsigned bits) {
  return {_mm512_maskz_compress_ps(static_cast<__mmask16>(bits), x.v)};
}
SGF_INLINE F64x8 compact(F64x8 x, unsigned bits) {
  return {_mm512_maskz_compress_pd(static_cast<__mmask8>(bits), x.v)};
}

// Their numbers, counted from `first`; a whole register's worth is stored.
template <class V>
struct LaneNumbers;
template <>
struct LaneNumbers<F32x16> {
  static SGF_INLINE __m512i of(unsigned bits) {
    const __m512i all = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    return _mm512_maskz_compress_epi32(static_cast<__mmask16>(bits), all);
  }
  static SGF_INLINE void store(std::int32_t* p, std::int64_t first, unsigned bits) {
    const __m512i base = _mm512_set1_epi32(static_cast<int>(first));
    _mm512_storeu_si512(p, _mm512_add_epi32(base, of(bits)));
  }
  static SGF_INLINE void store(std::int64_t* p, std::int64_t first, unsigned bits) {
    const __m512i base = _mm512_set1_epi64(first);
    const __m512i lanes = of(bits);
    const __m512i low = _mm512_cvtepi32_epi64(_mm512_castsi512_si256(lanes));
    const __m512i high = _mm512_cvtepi32_epi64(_mm512_extracti64x4_epi64(lanes, 1));
    _mm512_storeu_si512(p, _mm512_add_epi64(base, low));
    _mm512_storeu_si512(p + 8, _mm512_add_epi64(base, high));
  }
};
template <>
struct LaneNumbers<F64x8> {
  static SGF_INLINE __m512i numbers(std::int64_t first, unsigned bits) {
    const __m512i all = _mm512_setr_epi64(0, 1, 2, 3, 4, 5, 6, 7);
    const __m512i lanes = _mm512_maskz_compress_epi64(static_cast<__mmask8>(bits), all);
    return _mm512_add_epi64(_mm512_set1_epi64(first), lanes);
  }
  static SGF_INLINE void store(std::int32_t* p, std::int64_t first, unsigned bits) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_cvtepi64_epi32(numbers(first, bits)));
  }
  static SGF_INLINE void store(std::int64_t* p, std::int64_t first, unsigned bits) {
    _mm512_storeu_si512(p, numbers(first, bits));
  }
};

}  // namespace SGF_ISA
}  // namespace subgrad
