// Element types, shared by the bindings, the kernels and CUDA.
#pragma once

#include <cstddef>
#include <cstdint>

namespace subgrad {

enum class DType : std::uint8_t { f32, f64, bf16, f16 };
inline constexpr int kDTypes = 4;

// 16-bit floats as they lie in memory. Arithmetic never happens in them (see convert.h).
struct bf16 {
  std::uint16_t bits;
};
struct f16 {
  std::uint16_t bits;
};

constexpr std::size_t size_of(DType t) { return t == DType::f64 ? 8 : t == DType::f32 ? 4 : 2; }

// The type that a parameter's arithmetic is done in.
constexpr DType compute_dtype(DType t) { return t == DType::f64 ? DType::f64 : DType::f32; }

constexpr const char* name_of(DType t) {
  return t == DType::f32    ? "float32"
         : t == DType::f64  ? "float64"
         : t == DType::bf16 ? "bfloat16"
                            : "float16";
}

// Element type of a DType and the type its arithmetic is done in.
template <DType t>
struct Element;
template <>
struct Element<DType::f32> {
  using type = float;
};
template <>
struct Element<DType::f64> {
  using type = double;
};
template <>
struct Element<DType::bf16> {
  using type = bf16;
};
template <>
struct Element<DType::f16> {
  using type = f16;
};
template <DType t>
using element_t = typename Element<t>::type;

template <class T>
struct Compute {
  using type = float;
};
template <>
struct Compute<double> {
  using type = double;
};
template <class T>
using compute_t = typename Compute<T>::type;

}  // namespace subgrad
