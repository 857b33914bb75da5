// NEON: two 64-bit integers a register.
#pragma once

#include <arm_neon.h>

#include "core/bits.h"

namespace subgrad {
inline namespace SGF_ISA {

struct U64 {
  using Lane = std::uint64_t;
  uint64x2_t v;
  static SGF_INLINE U64 splat(Lane x) { return {vdupq_n_u64(x)}; }
};

SGF_INLINE U64 add(U64 a, U64 b) { return {vaddq_u64(a.v, b.v)}; }
SGF_INLINE U64 bit_xor(U64 a, U64 b) { return {veorq_u64(a.v, b.v)}; }
SGF_INLINE U64 bit_and(U64 a, U64 b) { return {vandq_u64(a.v, b.v)}; }
SGF_INLINE U64 bit_or(U64 a, U64 b) { return {vorrq_u64(a.v, b.v)}; }
SGF_INLINE U64 mul32(U64 a, U64 b) { return {vmull_u32(vmovn_u64(a.v), vmovn_u64(b.v))}; }
SGF_INLINE U64 shift_left(U64 a, int n) { return {vshlq_u64(a.v, vdupq_n_s64(n))}; }
SGF_INLINE U64 shift_right(U64 a, int n) { return {vshlq_u64(a.v, vdupq_n_s64(-n))}; }

struct U64Memory {
  static constexpr int width = 2;
  static SGF_INLINE U64 load(const std::uint64_t* p) { return {vld1q_u64(p)}; }
  static SGF_INLINE void store(std::uint64_t* p, U64 x) { vst1q_u64(p, x.v); }
  // a0 b0 a1 b1 ...
  static SGF_INLINE void store_pairs(std::uint64_t* p, U64 a, U64 b) { vst2q_u64(p, {{a.v, b.v}}); }
};

}  // namespace SGF_ISA
}  // namespace subgrad
