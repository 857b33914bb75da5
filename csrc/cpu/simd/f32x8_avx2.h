// AVX2 with FMA and F16C: 8 floats or 4 doubles a register.
#pragma once

#include <immintrin.h>

#include "core/macros.h"
#include "core/types.h"
#include "cpu/simd/lane_table.h"
#include "cpu/simd/partial.h"

namespace subgrad {
inline namespace SGF_ISA {

struct F32x8 {
  using Lane = float;
  __m256 v;
  static SGF_INLINE F32x8 splat(float x) { return {_mm256_set1_ps(x)}; }
};
struct F64x4 {
  using Lane = double;
  __m256d v;
  static SGF_INLINE F64x4 splat(double x) { return {_mm256_set1_pd(x)}; }
};

SGF_INLINE F32x8 fma(F32x8 a, F32x8 b, F32x8 c) { return {_mm256_fmadd_ps(a.v, b.v, c.v)}; }
SGF_INLINE F64x4 fma(F64x4 a, F64x4 b, F64x4 c) { return {_mm256_fmadd_pd(a.v, b.v, c.v)}; }
SGF_INLINE F32x8 mul(F32x8 a, F32x8 b) { return {_mm256_mul_ps(a.v, b.v)}; }
SGF_INLINE F64x4 mul(F64x4 a, F64x4 b) { return {_mm256_mul_pd(a.v, b.v)}; }
SGF_INLINE F32x8 sub(F32x8 a, F32x8 b) { return {_mm256_sub_ps(a.v, b.v)}; }
SGF_INLINE F64x4 sub(F64x4 a, F64x4 b) { return {_mm256_sub_pd(a.v, b.v)}; }
SGF_INLINE F32x8 clamp(F32x8 x, F32x8 low, F32x8 high) {
  return {_mm256_min_ps(_mm256_max_ps(x.v, low.v), high.v)};
}
SGF_INLINE F64x4 clamp(F64x4 x, F64x4 low, F64x4 high) {
  return {_mm256_min_pd(_mm256_max_pd(x.v, low.v), high.v)};
}
SGF_INLINE F32x8 within(F32x8 x, F32x8 low, F32x8 high) {
  return {_mm256_min_ps(high.v, _mm256_max_ps(low.v, x.v))};
}
SGF_INLINE F64x4 within(F64x4 x, F64x4 low, F64x4 high) {
  return {_mm256_min_pd(high.v, _mm256_max_pd(low.v, x.v))};
}

SGF_INLINE __m256 bf16_to_f32(__m128i h) {
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(h), 16));
}
// Rounded to nearest even, in the upper half of each lane; the lower half is not to be used, and
// NaN is for quiet_nan.
SGF_INLINE __m256i round_to_bf16(__m256 x) {
  const __m256i u = _mm256_castps_si256(x);
  const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(u, 16), _mm256_set1_epi32(1));
  return _mm256_add_epi32(_mm256_add_epi32(u, _mm256_set1_epi32(0x7fff)), odd);
}
SGF_INLINE __m256i quiet_nan(__m256 x, __m256i rounded) {
  const __m256i quiet = _mm256_or_si256(_mm256_castps_si256(x), _mm256_set1_epi32(0x400000));
  return _mm256_blendv_epi8(rounded, quiet, _mm256_castps_si256(_mm256_cmp_ps(x, x, _CMP_UNORD_Q)));
}
SGF_INLINE __m128i f32_to_bf16(__m256 x) {
  const __m256i halves = _mm256_srli_epi32(quiet_nan(x, round_to_bf16(x)), 16);
  return _mm_packus_epi32(_mm256_castsi256_si128(halves), _mm256_extracti128_si256(halves, 1));
}

template <class C>
struct VecOf;
template <>
struct VecOf<float> {
  using type = F32x8;
};
template <>
struct VecOf<double> {
  using type = F64x4;
};
template <class C>
using Vec = typename VecOf<C>::type;

template <class V>
struct Memory;

template <>
struct Memory<F32x8> : PartialThroughBuffer<Memory<F32x8>> {
  static constexpr int width = 8;
  static SGF_INLINE __m256i first(int n) {
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
  }

  static SGF_INLINE F32x8 load(const float* p) { return {_mm256_loadu_ps(p)}; }
  static SGF_INLINE F32x8 load(const bf16* p) {
    return {bf16_to_f32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)))};
  }
  static SGF_INLINE F32x8 load(const f16* p) {
    return {_mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)))};
  }
  static SGF_INLINE F32x8 load(const float* p, int n) { return {_mm256_maskload_ps(p, first(n))}; }
  template <class T>
  static SGF_INLINE F32x8 load(const T* p, int n) {
    return Memory::load_partial(p, n);
  }

  static SGF_INLINE void store(float* p, F32x8 x) { _mm256_storeu_ps(p, x.v); }
  static SGF_INLINE void store(bf16* p, F32x8 x) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), f32_to_bf16(x.v));
  }
  static SGF_INLINE void store(f16* p, F32x8 x) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p),
                     _mm256_cvtps_ph(x.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
  }
  // 16 bf16 by their places, even and odd: each is widened and rounded where it lies.
  static SGF_INLINE void load_halves(const bf16* p, F32x8& even, F32x8& odd) {
    const __m256i both = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
    even = {_mm256_castsi256_ps(_mm256_slli_epi32(both, 16))};
    odd = {_mm256_castsi256_ps(_mm256_and_si256(both, _mm256_set1_epi32(~0xffff)))};
  }
  static SGF_INLINE void store_halves(bf16* p, F32x8 even, F32x8 odd) {
    __m256i low = round_to_bf16(even.v), high = round_to_bf16(odd.v);
    if (_mm256_movemask_ps(_mm256_cmp_ps(even.v, odd.v, _CMP_UNORD_Q)) != 0) {  // NaN: rare
      low = quiet_nan(even.v, low);
      high = quiet_nan(odd.v, high);
    }
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p),
                        _mm256_blend_epi16(_mm256_srli_epi32(low, 16), high, 0xaa));
  }
  static SGF_INLINE void store(float* p, F32x8 x, int n) { _mm256_maskstore_ps(p, first(n), x.v); }
  template <class T>
  static SGF_INLINE void store(T* p, F32x8 x, int n) {
    Memory::store_partial(p, x, n);
  }
};

template <>
struct Memory<F64x4> : PartialThroughBuffer<Memory<F64x4>> {
  static constexpr int width = 4;
  static SGF_INLINE __m256i first(int n) {
    return _mm256_cmpgt_epi64(_mm256_set1_epi64x(n), _mm256_setr_epi64x(0, 1, 2, 3));
  }

  static SGF_INLINE F64x4 load(const double* p) { return {_mm256_loadu_pd(p)}; }
  static SGF_INLINE F64x4 load(const float* p) { return {_mm256_cvtps_pd(_mm_loadu_ps(p))}; }
  static SGF_INLINE F64x4 load(const bf16* p) {
    const __m128i h = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(p));
    return {_mm256_cvtps_pd(_mm_castsi128_ps(_mm_slli_epi32(_mm_cvtepu16_epi32(h), 16)))};
  }
  static SGF_INLINE F64x4 load(const f16* p) {
    const __m128i h = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(p));
    return {_mm256_cvtps_pd(_mm_cvtph_ps(h))};
  }
  static SGF_INLINE F64x4 load(const double* p, int n) { return {_mm256_maskload_pd(p, first(n))}; }
  template <class T>
  static SGF_INLINE F64x4 load(const T* p, int n) {
    return Memory::load_partial(p, n);
  }

  static SGF_INLINE void store(double* p, F64x4 x) { _mm256_storeu_pd(p, x.v); }
  static SGF_INLINE void store(float* p, F64x4 x) { _mm_storeu_ps(p, _mm256_cvtpd_ps(x.v)); }
  static SGF_INLINE void store(double* p, F64x4 x, int n) { _mm256_maskstore_pd(p, first(n), x.v); }
  static SGF_INLINE void store(float* p, F64x4 x, int n) { Memory::store_partial(p, x, n); }
};

struct Mask32x8 {
  __m256i m;
};
struct Mask64x4 {
  __m256i m;
};

// Signed comparisons are all there is; magnitudes have no sign bit, and cut - 1 fits in every case.
SGF_INLINE Mask32x8 at_least(F32x8 x, std::uint32_t cut) {
  const __m256i bits = _mm256_and_si256(_mm256_castps_si256(x.v), _mm256_set1_epi32(0x7fffffff));
  return {_mm256_cmpgt_epi32(bits, _mm256_set1_epi32(static_cast<int>(cut - 1)))};
}
SGF_INLINE Mask64x4 at_least(F64x4 x, std::uint64_t cut) {
  const __m256i bits =
      _mm256_and_si256(_mm256_castpd_si256(x.v), _mm256_set1_epi64x(0x7fffffffffffffff));
  return {_mm256_cmpgt_epi64(bits, _mm256_set1_epi64x(static_cast<long long>(cut - 1)))};
}
SGF_INLINE F32x8 blend(Mask32x8 mask, F32x8 yes, F32x8 no) {
  return {_mm256_blendv_ps(no.v, yes.v, _mm256_castsi256_ps(mask.m))};
}
SGF_INLINE F64x4 blend(Mask64x4 mask, F64x4 yes, F64x4 no) {
  return {_mm256_blendv_pd(no.v, yes.v, _mm256_castsi256_pd(mask.m))};
}

// Lanes as bits of an integer: bit i is lane i.
SGF_INLINE unsigned lane_bits(Mask32x8 mask) {
  return static_cast<unsigned>(_mm256_movemask_ps(_mm256_castsi256_ps(mask.m)));
}
SGF_INLINE unsigned lane_bits(Mask64x4 mask) {
  return static_cast<unsigned>(_mm256_movemask_pd(_mm256_castsi256_pd(mask.m)));
}
SGF_INLINE int count_lanes(unsigned bits) { return __builtin_popcount(bits); }
SGF_INLINE int first_lane(unsigned bits) { return __builtin_ctz(bits); }

inline constexpr LaneTable<8> kLanes;  // its first 16 rows serve four lanes too

SGF_INLINE __m128i packed_lanes(unsigned bits) {
  return _mm_loadl_epi64(reinterpret_cast<const __m128i*>(kLanes.packed + bits));
}

// The lanes of `bits` moved to the front, in their order; what lies behind them is anything.
SGF_INLINE F32x8 compact(F32x8 x, unsigned bits) {
  return {_mm256_permutevar8x32_ps(x.v, _mm256_cvtepu8_epi32(packed_lanes(bits)))};
}
SGF_INLINE F64x4 compact(F64x4 x, unsigned bits) {
  // Lane i is the 32-bit lanes 2i and 2i + 1.
  const __m256i even = _mm256_slli_epi64(_mm256_cvtepu8_epi64(packed_lanes(bits)), 1);
  const __m256i odd = _mm256_slli_epi64(_mm256_add_epi64(even, _mm256_set1_epi64x(1)), 32);
  const __m256 moved = _mm256_permutevar8x32_ps(_mm256_castpd_ps(x.v), _mm256_or_si256(even, odd));
  return {_mm256_castps_pd(moved)};
}

// Their numbers, counted from `first`; a whole register's worth is stored.
template <class V>
struct LaneNumbers;
template <>
struct LaneNumbers<F32x8> {
  static SGF_INLINE void store(std::int32_t* p, std::int64_t first, unsigned bits) {
    const __m256i base = _mm256_set1_epi32(static_cast<int>(first));
    const __m256i lanes = _mm256_cvtepu8_epi32(packed_lanes(bits));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm256_add_epi32(base, lanes));
  }
  static SGF_INLINE void store(std::int64_t* p, std::int64_t first, unsigned bits) {
    const __m256i base = _mm256_set1_epi64x(first);
    const __m128i packed = packed_lanes(bits);
    const __m256i low = _mm256_cvtepu8_epi64(packed);
    const __m256i high = _mm256_cvtepu8_epi64(_mm_srli_si128(packed, 4));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm256_add_epi64(base, low));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p + 4), _mm256_add_epi64(base, high));
  }
};
template <>
struct LaneNumbers<F64x4> {
  static SGF_INLINE void store(std::int32_t* p, std::int64_t first, unsigned bits) {
    const __m128i base = _mm_set1_epi32(static_cast<int>(first));
    const __m128i lanes = _mm_cvtepu8_epi32(packed_lanes(bits));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm_add_epi32(base, lanes));
  }
  static SGF_INLINE void store(std::int64_t* p, std::int64_t first, unsigned bits) {
    const __m256i base = _mm256_set1_epi64x(first);
    const __m256i lanes = _mm256_cvtepu8_epi64(packed_lanes(bits));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm256_add_epi64(base, lanes));
  }
};

}  // namespace SGF_ISA
}  // namespace subgrad
