// NEON on AArch64: 4 floats or 2 doubles a register.
#pragma once

#include <arm_neon.h>

#include "core/macros.h"
#include "core/types.h"
#include "cpu/simd/lane_table.h"
#include "cpu/simd/partial.h"

namespace subgrad {
inline namespace SGF_ISA {

struct F32x4 {
  using Lane = float;
  float32x4_t v;
  static SGF_INLINE F32x4 splat(float x) { return {vdupq_n_f32(x)}; }
};
struct F64x2 {
  using Lane = double;
  float64x2_t v;
  static SGF_INLINE F64x2 splat(double x) { return {vdupq_n_f64(x)}; }
};

SGF_INLINE F32x4 fma(F32x4 a, F32x4 b, F32x4 c) { return {vfmaq_f32(c.v, a.v, b.v)}; }
SGF_INLINE F64x2 fma(F64x2 a, F64x2 b, F64x2 c) { return {vfmaq_f64(c.v, a.v, b.v)}; }
SGF_INLINE F32x4 mul(F32x4 a, F32x4 b) { return {vmulq_f32(a.v, b.v)}; }
SGF_INLINE F64x2 mul(F64x2 a, F64x2 b) { return {vmulq_f64(a.v, b.v)}; }
SGF_INLINE F32x4 sub(F32x4 a, F32x4 b) { return {vsubq_f32(a.v, b.v)}; }
SGF_INLINE F64x2 sub(F64x2 a, F64x2 b) { return {vsubq_f64(a.v, b.v)}; }
// Not vmaxq and vminq, which take another zero where two of unlike sign meet.
SGF_INLINE F32x4 clamp(F32x4 x, F32x4 low, F32x4 high) {
  const float32x4_t y = vbslq_f32(vcgtq_f32(x.v, low.v), x.v, low.v);
  return {vbslq_f32(vcltq_f32(y, high.v), y, high.v)};
}
SGF_INLINE F64x2 clamp(F64x2 x, F64x2 low, F64x2 high) {
  const float64x2_t y = vbslq_f64(vcgtq_f64(x.v, low.v), x.v, low.v);
  return {vbslq_f64(vcltq_f64(y, high.v), y, high.v)};
}
SGF_INLINE F32x4 within(F32x4 x, F32x4 low, F32x4 high) {
  const float32x4_t y = vbslq_f32(vcgtq_f32(low.v, x.v), low.v, x.v);
  return {vbslq_f32(vcltq_f32(high.v, y), high.v, y)};
}
SGF_INLINE F64x2 within(F64x2 x, F64x2 low, F64x2 high) {
  const float64x2_t y = vbslq_f64(vcgtq_f64(low.v, x.v), low.v, x.v);
  return {vbslq_f64(vcltq_f64(high.v, y), high.v, y)};
}

SGF_INLINE float32x4_t bf16_to_f32(uint16x4_t h) {
  return vreinterpretq_f32_u32(vshll_n_u16(h, 16));
}
// Rounded to nearest even, in the upper half of each lane; the lower half is not to be used.
SGF_INLINE uint32x4_t round_to_bf16(float32x4_t x) {
  const uint32x4_t u = vreinterpretq_u32_f32(x);
  const uint32x4_t bias =
      vaddq_u32(vandq_u32(vshrq_n_u32(u, 16), vdupq_n_u32(1)), vdupq_n_u32(0x7fff));
  const uint32x4_t quiet = vorrq_u32(u, vdupq_n_u32(0x400000));
  return vbslq_u32(vceqq_f32(x, x), vaddq_u32(u, bias), quiet);
}
SGF_INLINE uint16x4_t f32_to_bf16(float32x4_t x) { return vshrn_n_u32(round_to_bf16(x), 16); }
SGF_INLINE float32x4_t f16_to_f32(uint16x4_t h) { return vcvt_f32_f16(vreinterpret_f16_u16(h)); }
SGF_INLINE uint16x4_t f32_to_f16(float32x4_t x) { return vreinterpret_u16_f16(vcvt_f16_f32(x)); }

template <class C>
struct VecOf;
template <>
struct VecOf<float> {
  using type = F32x4;
};
template <>
struct VecOf<double> {
  using type = F64x2;
};
template <class C>
using Vec = typename VecOf<C>::type;

template <class V>
struct Memory;

template <>
struct Memory<F32x4> : PartialThroughBuffer<Memory<F32x4>> {
  static constexpr int width = 4;
  static SGF_INLINE F32x4 load(const float* p) { return {vld1q_f32(p)}; }
  static SGF_INLINE F32x4 load(const bf16* p) {
    return {bf16_to_f32(vld1_u16(reinterpret_cast<const std::uint16_t*>(p)))};
  }
  static SGF_INLINE F32x4 load(const f16* p) {
    return {f16_to_f32(vld1_u16(reinterpret_cast<const std::uint16_t*>(p)))};
  }
  template <class T>
  static SGF_INLINE F32x4 load(const T* p, int n) {
    return Memory::load_partial(p, n);
  }

  static SGF_INLINE void store(float* p, F32x4 x) { vst1q_f32(p, x.v); }
  static SGF_INLINE void store(bf16* p, F32x4 x) {
    vst1_u16(reinterpret_cast<std::uint16_t*>(p), f32_to_bf16(x.v));
  }
  // 8 bf16 by their places, even and odd: each is widened and rounded where it lies.
  static SGF_INLINE void load_halves(const bf16* p, F32x4& even, F32x4& odd) {
    const uint32x4_t both =
        vreinterpretq_u32_u16(vld1q_u16(reinterpret_cast<const std::uint16_t*>(p)));
    even = {vreinterpretq_f32_u32(vshlq_n_u32(both, 16))};
    odd = {vreinterpretq_f32_u32(vandq_u32(both, vdupq_n_u32(0xffff0000u)))};
  }
  static SGF_INLINE void store_halves(bf16* p, F32x4 even, F32x4 odd) {
    const uint32x4_t both = vsriq_n_u32(round_to_bf16(odd.v), round_to_bf16(even.v), 16);
    vst1q_u16(reinterpret_cast<std::uint16_t*>(p), vreinterpretq_u16_u32(both));
  }
  static SGF_INLINE void store(f16* p, F32x4 x) {
    vst1_u16(reinterpret_cast<std::uint16_t*>(p), f32_to_f16(x.v));
  }
  template <class T>
  static SGF_INLINE void store(T* p, F32x4 x, int n) {
    Memory::store_partial(p, x, n);
  }
};

template <>
struct Memory<F64x2> : PartialThroughBuffer<Memory<F64x2>> {
  static constexpr int width = 2;
  static SGF_INLINE float64x2_t low(float32x4_t x) { return vcvt_f64_f32(vget_low_f32(x)); }
  static SGF_INLINE uint16x4_t pair(const std::uint16_t* p) {
    const std::uint16_t buffer[4] = {p[0], p[1], 0, 0};
    return vld1_u16(buffer);
  }

  static SGF_INLINE F64x2 load(const double* p) { return {vld1q_f64(p)}; }
  static SGF_INLINE F64x2 load(const float* p) { return {vcvt_f64_f32(vld1_f32(p))}; }
  static SGF_INLINE F64x2 load(const bf16* p) {
    return {low(bf16_to_f32(pair(reinterpret_cast<const std::uint16_t*>(p))))};
  }
  static SGF_INLINE F64x2 load(const f16* p) {
    return {low(f16_to_f32(pair(reinterpret_cast<const std::uint16_t*>(p))))};
  }
  template <class T>
  static SGF_INLINE F64x2 load(const T* p, int n) {
    return Memory::load_partial(p, n);
  }

  static SGF_INLINE void store(double* p, F64x2 x) { vst1q_f64(p, x.v); }
  static SGF_INLINE void store(float* p, F64x2 x) { vst1_f32(p, vcvt_f32_f64(x.v)); }
  template <class T>
  static SGF_INLINE void store(T* p, F64x2 x, int n) {
    Memory::store_partial(p, x, n);
  }
};

struct Mask32x4 {
  uint32x4_t m;
};
struct Mask64x2 {
  uint64x2_t m;
};

SGF_INLINE Mask32x4 at_least(F32x4 x, std::uint32_t cut) {
  const uint32x4_t bits = vandq_u32(vreinterpretq_u32_f32(x.v), vdupq_n_u32(0x7fffffff));
  return {vcgeq_u32(bits, vdupq_n_u32(cut))};
}
SGF_INLINE Mask64x2 at_least(F64x2 x, std::uint64_t cut) {
  const uint64x2_t bits = vandq_u64(vreinterpretq_u64_f64(x.v), vdupq_n_u64(0x7fffffffffffffff));
  return {vcgeq_u64(bits, vdupq_n_u64(cut))};
}
SGF_INLINE F32x4 blend(Mask32x4 mask, F32x4 yes, F32x4 no) {
  return {vbslq_f32(mask.m, yes.v, no.v)};
}
SGF_INLINE F64x2 blend(Mask64x2 mask, F64x2 yes, F64x2 no) {
  return {vbslq_f64(mask.m, yes.v, no.v)};
}

// Lanes as bits of an integer: bit i is lane i.
SGF_INLINE unsigned lane_bits(Mask32x4 mask) {
  const uint32x4_t weights = {1, 2, 4, 8};
  return vaddvq_u32(vandq_u32(mask.m, weights));
}
SGF_INLINE unsigned lane_bits(Mask64x2 mask) {
  const uint64x2_t weights = {1, 2};
  return static_cast<unsigned>(vaddvq_u64(vandq_u64(mask.m, weights)));
}
SGF_INLINE int count_lanes(unsigned bits) { return __builtin_popcount(bits); }
SGF_INLINE int first_lane(unsigned bits) { return __builtin_ctz(bits); }

inline constexpr LaneTable<4> kLanes;  // its first 4 rows serve two lanes too

SGF_INLINE uint16x8_t unpacked_lanes(unsigned bits) {
  return vmovl_u8(vcreate_u8(kLanes.packed[bits]));
}
SGF_INLINE uint32x4_t four_lanes(unsigned bits) {
  return vmovl_u16(vget_low_u16(unpacked_lanes(bits)));
}

// The lanes of `bits` moved to the front, in their order; what lies behind them is anything.
SGF_INLINE F32x4 compact(F32x4 x, unsigned bits) {
  // Lane i is the bytes 4i to 4i + 3.
  const uint32x4_t bytes = vmlaq_n_u32(vdupq_n_u32(0x03020100), four_lanes(bits), 0x04040404);
  return {vreinterpretq_f32_u8(vqtbl1q_u8(vreinterpretq_u8_f32(x.v), vreinterpretq_u8_u32(bytes)))};
}
SGF_INLINE F64x2 compact(F64x2 x, unsigned bits) {
  return {bits == 2 ? vdupq_laneq_f64(x.v, 1) : x.v};
}

// Their numbers, counted from `first`; a whole register's worth is stored.
template <class V>
struct LaneNumbers;
template <>
struct LaneNumbers<F32x4> {
  static SGF_INLINE void store(std::int32_t* p, std::int64_t first, unsigned bits) {
    const uint32x4_t base = vdupq_n_u32(static_cast<std::uint32_t>(first));
    vst1q_s32(p, vreinterpretq_s32_u32(vaddq_u32(base, four_lanes(bits))));
  }
  static SGF_INLINE void store(std::int64_t* p, std::int64_t first, unsigned bits) {
    const uint64x2_t base = vdupq_n_u64(static_cast<std::uint64_t>(first));
    const uint32x4_t lanes = four_lanes(bits);
    vst1q_s64(p, vreinterpretq_s64_u64(vaddw_u32(base, vget_low_u32(lanes))));
    vst1q_s64(p + 2, vreinterpretq_s64_u64(vaddw_u32(base, vget_high_u32(lanes))));
  }
};
template <>
struct LaneNumbers<F64x2> {
  template <class I>
  static SGF_INLINE void store(I* p, std::int64_t first, unsigned bits) {
    p[0] = static_cast<I>(first + (bits == 2 ? 1 : 0));
    p[1] = static_cast<I>(first + 1);
  }
};

}  // namespace SGF_ISA
}  // namespace subgrad
