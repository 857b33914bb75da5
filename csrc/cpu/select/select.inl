// Selection by magnitude over one contiguous run, written once and compiled per instruction set.
// Includes nothing of the standard library on purpose: see core/macros.h on SGF_ISA.
#include "core/convert.h"
#include "core/types.h"
#include "cpu/kernel_table.h"
#include "rules/select.h"

namespace subgrad {
inline namespace SGF_ISA {

// body(register, lanes, i) for the elements from i on; `lanes` has a bit for every lane that holds
// an element.
template <class V, class T, class Body>
SGF_INLINE void each_register(const T* x, std::int64_t n, const Body& body) {
  constexpr int width = Memory<V>::width;
  std::int64_t i = 0;
  for (; i + width <= n; i += width) body(Memory<V>::load(x + i), (1u << width) - 1u, i);
  if constexpr (width > 1) {
    const int rest = static_cast<int>(n - i);
    if (rest > 0) body(Memory<V>::load(x + i, rest), (1u << rest) - 1u, i);
  }
}

template <class T>
KeyCounts count_keys(const void* x, std::int64_t n, std::uint64_t cut) {
  using C = compute_t<T>;
  using V = Vec<C>;
  const auto key = static_cast<key_t<C>>(cut);
  const key_t<C> next = cut_above<C>(key);
  KeyCounts counts = {0, 0};
  each_register<V>(static_cast<const T*>(x), n, [&](V v, unsigned lanes, std::int64_t) {
    counts.at_least += count_lanes(lane_bits(at_least(v, key)) & lanes);
    counts.above += count_lanes(lane_bits(at_least(v, next)) & lanes);
  });
  return counts;
}

template <class T>
std::int64_t gather_keys(const void* x, std::int64_t n, std::uint64_t cut, std::int32_t* indices,
                         void* values) {
  using C = compute_t<T>;
  using V = Vec<C>;
  const auto key = static_cast<key_t<C>>(cut);
  C* out = static_cast<C*>(values);
  std::int64_t count = 0;
  each_register<V>(static_cast<const T*>(x), n, [&](V v, unsigned lanes, std::int64_t i) {
    const unsigned bits = lane_bits(at_least(v, key)) & lanes;
    if (bits == 0) return;
    LaneNumbers<V>::store(indices + count, i, bits);
    Memory<V>::store(out + count, compact(v, bits));
    count += count_lanes(bits);
  });
  return count;
}

// Four tables in turn: equal neighbours would make each increment wait for the one before it.
template <class T>
void count_digits(const void* x, std::int64_t n, std::uint64_t first, std::uint64_t end, int shift,
                  std::uint32_t (*bins)[kDigitBins]) {
  using C = compute_t<T>;
  using V = Vec<C>;
  constexpr int width = Memory<V>::width;
  const auto low = static_cast<key_t<C>>(first), high = static_cast<key_t<C>>(end);
  each_register<V>(static_cast<const T*>(x), n, [&](V v, unsigned lanes, std::int64_t i) {
    unsigned in = lane_bits(at_least(v, low)) & ~lane_bits(at_least(v, high)) & lanes;
    if (in == 0) return;
    C values[width];
    Memory<V>::store(values, v);
    const auto count = [&](int lane) {
      const auto digit = magnitude_key(values[lane]) >> shift & (kDigitBins - 1);
      ++bins[(static_cast<int>(i) + lane) % kDigitTables][digit];
    };
    if (in == (1u << width) - 1u) {
      for (int lane = 0; lane < width; ++lane) count(lane);
    } else {
      for (; in != 0; in &= in - 1) count(first_lane(in));
    }
  });
}

// Sixteen sums whatever the registers' width, folded in one order: the same bits everywhere.
// Computed in double, where the square of an f32 is exact.
template <class T>
Energy sum_squares(const void* x, std::int64_t n, std::uint64_t cut) {
  using V = Vec<double>;
  constexpr int width = Memory<V>::width, sums = 16, registers = sums / width;
  const T* from = static_cast<const T*>(x);
  const std::uint64_t key = cut_as_f64<compute_t<T>>(static_cast<key_t<compute_t<T>>>(cut));
  const V zero = splat<V>(0.0);
  V kept[registers], rest[registers];
  for (int r = 0; r < registers; ++r) kept[r] = rest[r] = zero;
  const auto add = [&](int r, V v) {
    const auto mask = at_least(v, key);
    const V in = blend(mask, v, zero), out = blend(mask, zero, v);
    kept[r] = fma(in, in, kept[r]);
    rest[r] = fma(out, out, rest[r]);
  };
  std::int64_t i = 0;
  for (; i + sums <= n; i += sums) {
    for (int r = 0; r < registers; ++r) add(r, Memory<V>::load(from + i + r * width));
  }
  for (int r = 0; i < n; i += width, ++r) {
    if (i + width <= n) {
      add(r, Memory<V>::load(from + i));
    } else if constexpr (width > 1) {
      add(r, Memory<V>::load(from + i, static_cast<int>(n - i)));
    }
  }
  double lanes[2][sums];
  for (int r = 0; r < registers; ++r) {
    Memory<V>::store(lanes[0] + r * width, kept[r]);
    Memory<V>::store(lanes[1] + r * width, rest[r]);
  }
  for (double* lane : lanes) {
    for (int half = sums / 2; half > 0; half /= 2) {
      for (int s = 0; s < half; ++s) lane[s] += lane[s + half];
    }
  }
  return {lanes[0][0], lanes[1][0]};
}

template <int t>
constexpr void fill_select(KernelTable& table) {
  using T = element_t<static_cast<DType>(t)>;
  table.count_keys[t] = &count_keys<T>;
  table.gather_keys[t] = &gather_keys<T>;
  table.count_digits[t] = &count_digits<T>;
  table.sum_squares[t] = &sum_squares<T>;
  if constexpr (t + 1 < kDTypes) fill_select<t + 1>(table);
}

}  // namespace SGF_ISA
}  // namespace subgrad
