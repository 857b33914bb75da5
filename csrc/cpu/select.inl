// Selection by magnitude over one contiguous run, written once and compiled per instruction set.
// Includes nothing of the standard library on purpose: see core/macros.h on SGF_ISA.
#include "core/convert.h"
#include "core/types.h"
#include "cpu/kernel_table.h"
#include "rules/threshold.h"

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

// Where kept elements go: index and value, whole registers while there is room for them.
template <class V, class I, class O>
struct Emitter {
  I* indices;
  O* values;
  std::int64_t left;

  SGF_INLINE void put(V v, unsigned bits, std::int64_t first) {
    constexpr int width = Memory<V>::width;
    const int kept = count_lanes(bits);
    const V packed = compact(v, bits);
    if (left >= width) {
      LaneNumbers<V>::store(indices, first, bits);
      Memory<V>::store(values, packed);
    } else if constexpr (width > 1) {  // what lies behind may belong to another thread
      I numbers[width];
      LaneNumbers<V>::store(numbers, first, bits);
      for (int lane = 0; lane < kept; ++lane) indices[lane] = numbers[lane];
      Memory<V>::store(values, packed, kept);
    }
    indices += kept;
    values += kept;
    left -= kept;
  }
};

template <class T, class I, class O>
void emit_keys(const void* x, std::int64_t n, std::uint64_t cut, std::int64_t first,
               std::int64_t count, void* indices, void* values) {
  using V = Vec<compute_t<T>>;
  const auto key = static_cast<key_t<V>>(cut);
  Emitter<V, I, O> out{static_cast<I*>(indices), static_cast<O*>(values), count};
  each_register<V>(static_cast<const T*>(x), n, [&](V v, unsigned lanes, std::int64_t i) {
    const unsigned bits = lane_bits(at_least(v, key)) & lanes;
    if (bits != 0) out.put(v, bits, first + i);
  });
}

// Four tables in turn: equal neighbours would make each increment wait for the one before it.
template <class T>
void count_digits(const void* x, std::int64_t n, std::uint64_t prefix, int shift,
                  std::uint32_t (*bins)[kDigitBins]) {
  using C = compute_t<T>;
  using V = Vec<C>;
  constexpr std::uint64_t digit_mask = (1u << kDigitBits) - 1u;
  each_register<V>(static_cast<const T*>(x), n, [&](V v, unsigned lanes, std::int64_t i) {
    constexpr int width = Memory<V>::width;
    C values[width];
    Memory<V>::store(values, v);
    for (int lane = 0; lane < width && (lanes >> lane) != 0; ++lane) {
      const std::uint64_t key = magnitude_key(values[lane]);
      const std::uint64_t digit = key >> shift & digit_mask;
      ++bins[(static_cast<int>(i) + lane) % kDigitTables]
            [key >> shift >> kDigitBits == prefix ? digit : digit_mask + 1];
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
  using C = compute_t<T>;
  table.count_keys[t] = &count_keys<T>;
  table.emit_keys[t][int(Emit::i64)] = &emit_keys<T, std::int64_t, T>;
  table.emit_keys[t][int(Emit::i32)] = &emit_keys<T, std::int32_t, T>;
  table.emit_keys[t][int(Emit::i32_computed)] = &emit_keys<T, std::int32_t, C>;
  table.count_digits[t] = &count_digits<T>;
  table.sum_squares[t] = &sum_squares<T>;
  if constexpr (t + 1 < kDTypes) fill_select<t + 1>(table);
}

}  // namespace SGF_ISA
}  // namespace subgrad
