// Gradients measured, multiplied and limited, and averages moved: loops over one contiguous run,
// written once and compiled per instruction set.
#include "core/types.h"
#include "cpu/kernel_table.h"
#include "cpu/simd/registers_of.h"
#include "rules/average.h"
#include "rules/clip.h"

namespace subgrad {
inline namespace SGF_ISA {

// Thirty-two sums in double, where the square of an f32 is exact and cannot overflow: element i
// goes to sum i % 32, whatever the registers' width, and the sums are folded in halves. The same
// bits everywhere; a warp of a device holds them, one a lane.
template <class T>
double squares(const void* x, std::int64_t n) {
  using V = Vec<double>;
  constexpr int width = Memory<V>::width, registers = kSquareSums / width;
  const T* from = static_cast<const T*>(x);
  V sum[registers];
  for (V& s : sum) s = splat<V>(0.0);
  const auto add = [&](int r, V v) { sum[r] = fma(v, v, sum[r]); };
  std::int64_t i = 0;
  for (; i + kSquareSums <= n; i += kSquareSums) {
    for (int r = 0; r < registers; ++r) add(r, Memory<V>::load(from + i + r * width));
  }
  for (int r = 0; i < n; i += width, ++r) {
    if (i + width <= n) {
      add(r, Memory<V>::load(from + i));
    } else if constexpr (width > 1) {
      add(r, Memory<V>::load(from + i, static_cast<int>(n - i)));
    }
  }
  // The upper half is added to the lower one, and so on: whole registers first.
  const V one = splat<V>(1.0);
  for (int half = registers / 2; half > 0; half /= 2) {
    for (int r = 0; r < half; ++r) sum[r] = fma(one, sum[r + half], sum[r]);
  }
  double lane[width];
  Memory<V>::store(lane, sum[0]);
  for (int half = width / 2; half > 0; half /= 2) {
    for (int s = 0; s < half; ++s) lane[s] += lane[s + half];
  }
  return lane[0];
}

// The largest of the magnitudes' bits, which order as magnitudes do; NaN is above all.
template <class Bits>
std::uint64_t largest_bits(const void* x, std::int64_t n) {
  constexpr auto no_sign = static_cast<Bits>(static_cast<Bits>(~Bits{0}) >> 1);
  const char* from = static_cast<const char*>(x);
  Bits largest = 0;
  for (std::int64_t i = 0; i < n; ++i) {
    Bits bits;
    __builtin_memcpy(&bits, from + i * std::int64_t{sizeof bits}, sizeof bits);
    bits = static_cast<Bits>(bits & no_sign);
    largest = bits > largest ? bits : largest;
  }
  return largest;
}

// to[i] = the stage of from[i], computed in C; both may be the same memory.
template <class C, class T, class To>
void clip(const void* from, void* to, std::int64_t n, const GradientStage& stage) {
  using V = Vec<C>;
  using M = Memory<V>;
  const Clip<C> rule(stage);
  const T* g = static_cast<const T*>(from);
  To* out = static_cast<To*>(to);
  registers_of<V>(n, [&](std::int64_t i, auto... rest) {
    M::store(out + i, rule(M::load(g + i, rest...)), rest...);
  });
}

template <class T, class To>
void convert(const void* from, void* to, std::int64_t n) {
  using V = Vec<float>;
  using M = Memory<V>;
  const T* x = static_cast<const T*>(from);
  To* out = static_cast<To*>(to);
  registers_of<V>(n, [&](std::int64_t i, auto... rest) {
    M::store(out + i, M::load(x + i, rest...), rest...);
  });
}

template <class C>
void average(void* average, const void* weight, std::int64_t n, double decay) {
  using V = Vec<C>;
  using M = Memory<V>;
  const Lerp<C> rule(decay);
  C* e = static_cast<C*>(average);
  const C* w = static_cast<const C*>(weight);
  registers_of<V>(n, [&](std::int64_t i, auto... rest) {
    M::store(e + i, rule(M::load(e + i, rest...), M::load(w + i, rest...)), rest...);
  });
}

template <DType t, class Bits>
constexpr void fill_clip(KernelTable& table) {
  using T = element_t<t>;
  using C = compute_t<T>;
  table.squares[int(t)] = &squares<T>;
  table.largest_bits[int(t)] = &largest_bits<Bits>;
  table.clip_in_place[int(t)] = &clip<C, T, T>;
  table.clip_to_f64[int(t)] = &clip<double, T, double>;
  if constexpr (t != DType::f64) table.clip_to_f32[int(t)] = &clip<float, T, float>;
  if constexpr (sizeof(T) == 2) {
    table.widen[int(t)] = &convert<T, float>;
    table.narrow[int(t)] = &convert<float, T>;
  }
}

constexpr void fill_clip(KernelTable& table) {
  fill_clip<DType::f32, std::uint32_t>(table);
  fill_clip<DType::f64, std::uint64_t>(table);
  fill_clip<DType::bf16, std::uint16_t>(table);
  fill_clip<DType::f16, std::uint16_t>(table);
  table.average[int(DType::f32)] = &average<float>;
  table.average[int(DType::f64)] = &average<double>;
}

}  // namespace SGF_ISA
}  // namespace subgrad
