// bf16 and f16 <-> f32 in integer arithmetic, round to nearest even: the definition every register
// wrapper's conversion is tested against. A NaN stays a NaN (quiet, upper payload bits kept; the
// one NaN of the instructions on a GPU, which otherwise do the same).
#pragma once

#include <cstdint>
#include <cstring>

#include "core/macros.h"
#include "core/types.h"

namespace subgrad {
inline namespace SGF_ISA {

SGF_HD std::uint32_t bits_of(float x) {
  std::uint32_t u;
  memcpy(&u, &x, sizeof u);
  return u;
}
SGF_HD float float_of(std::uint32_t u) {
  float x;
  memcpy(&x, &u, sizeof x);
  return x;
}

SGF_HD float to_f32(bf16 h) { return float_of(static_cast<std::uint32_t>(h.bits) << 16); }

SGF_HD bf16 to_bf16(float x) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
  bf16 h;
  asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(h.bits) : "f"(x));
  return h;
#else
  const std::uint32_t u = bits_of(x);
  if ((u & 0x7fffffffu) > 0x7f800000u) {  // NaN: rounding could carry it into infinity
    return {static_cast<std::uint16_t>((u >> 16) | 0x0040u)};
  }
  return {static_cast<std::uint16_t>((u + 0x7fffu + ((u >> 16) & 1u)) >> 16)};
#endif
}

SGF_HD float to_f32(f16 h) {
#if defined(__CUDA_ARCH__)
  float x;
  asm("cvt.f32.f16 %0, %1;" : "=f"(x) : "h"(h.bits));
  return x;
#else
  const std::uint32_t sign = static_cast<std::uint32_t>(h.bits & 0x8000u) << 16;
  const std::uint32_t magnitude = h.bits & 0x7fffu;
  if (magnitude > 0x7c00u) {  // NaN: made quiet, as the hardware conversions do
    return float_of(sign | 0x7fc00000u | (magnitude & 0x3ffu) << 13);
  }
  if (magnitude == 0x7c00u) return float_of(sign | 0x7f800000u);
  if (magnitude < 0x0400u) {  // subnormal: magnitude * 2^-24 is exact in f32
    const float value = static_cast<float>(magnitude) * 0x1p-24f;
    return float_of(sign | bits_of(value));
  }
  return float_of(sign | ((magnitude << 13) + (112u << 23)));
#endif
}

SGF_HD f16 to_f16(float x) {
#if defined(__CUDA_ARCH__)
  f16 h;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(h.bits) : "f"(x));
  return h;
#else
  const std::uint32_t u = bits_of(x);
  const std::uint32_t sign = (u >> 16) & 0x8000u;
  const std::uint32_t magnitude = u & 0x7fffffffu;
  std::uint32_t half;
  if (magnitude > 0x7f800000u) {
    half = 0x7e00u | ((magnitude >> 13) & 0x3ffu);
  } else if (magnitude >= 0x477ff000u) {  // 65520 and above round to infinity
    half = 0x7c00u;
  } else if (magnitude < 0x38800000u) {  // below 2^-14: adding 0.5 puts the rounding at 2^-24
    half = bits_of(float_of(magnitude) + 0.5f) - bits_of(0.5f);
  } else {
    half = (magnitude - (112u << 23) + 0xfffu + ((magnitude >> 13) & 1u)) >> 13;
  }
  return {static_cast<std::uint16_t>(sign | half)};
#endif
}

// One spelling for "load into the arithmetic type C" and "store as T".
template <class C>
SGF_HD C widen(float x) {
  return static_cast<C>(x);
}
template <class C>
SGF_HD C widen(double x) {
  return static_cast<C>(x);
}
template <class C>
SGF_HD C widen(bf16 x) {
  return static_cast<C>(to_f32(x));
}
template <class C>
SGF_HD C widen(f16 x) {
  return static_cast<C>(to_f32(x));
}

template <class T>
struct Narrow;
template <>
struct Narrow<float> {
  static SGF_HD float of(float x) { return x; }
  static SGF_HD float of(double x) { return static_cast<float>(x); }
};
template <>
struct Narrow<double> {
  static SGF_HD double of(double x) { return x; }
};
template <>
struct Narrow<bf16> {
  static SGF_HD bf16 of(float x) { return to_bf16(x); }
};
template <>
struct Narrow<f16> {
  static SGF_HD f16 of(float x) { return to_f16(x); }
};

}  // namespace SGF_ISA
}  // namespace subgrad
