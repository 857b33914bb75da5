// Kernels that put zeros into weights, over one contiguous run, written once and compiled per
// instruction set. Includes nothing of the standard library on purpose: see core/macros.h on
// SGF_ISA.
#include "core/types.h"
#include "cpu/kernel_table.h"
#include "rules/prox.h"
#include "rules/select.h"

namespace subgrad {
inline namespace SGF_ISA {

template <class T>
void shrink(void* data, std::int64_t n, double threshold, double scale) {
  using C = compute_t<T>;
  using V = Vec<C>;
  constexpr int width = Memory<V>::width;
  const Shrink<C> rule{SoftThreshold<C>::of(threshold), static_cast<C>(scale)};
  T* x = static_cast<T*>(data);
  std::int64_t i = 0;
  for (; i + width <= n; i += width) Memory<V>::store(x + i, rule(Memory<V>::load(x + i)));
  if constexpr (width > 1) {
    const int rest = static_cast<int>(n - i);
    if (rest > 0) Memory<V>::store(x + i, rule(Memory<V>::load(x + i, rest)), rest);
  }
}

// The rest computes nothing: weights that stay keep their bits, whatever NaN they are. Its loops
// are of the kind that compilers make vectors of.

template <int size_bytes>
struct BitsOf;
template <>
struct BitsOf<2> {
  using type = std::uint16_t;
};
template <>
struct BitsOf<4> {
  using type = std::uint32_t;
};
template <>
struct BitsOf<8> {
  using type = std::uint64_t;
};

// x becomes +0 unless it is kept.
template <class T>
SGF_INLINE void keep_if(bool kept, T* x) {
  typename BitsOf<sizeof(T)>::type bits;
  memcpy(&bits, x, sizeof bits);
  if (!kept) bits = 0;
  memcpy(x, &bits, sizeof bits);
}

// Magnitudes of n elements as keys (rules/select.h).
template <class T>
SGF_INLINE void load_keys(const T* x, int n, key_t<compute_t<T>>* keys) {
  using C = compute_t<T>;
  using V = Vec<C>;
  constexpr int width = Memory<V>::width;
  int i = 0;
  for (; i + width <= n; i += width) {
    C values[width];
    Memory<V>::store(values, Memory<V>::load(x + i));
    for (int j = 0; j < width; ++j) keys[i + j] = magnitude_key(values[j]);
  }
  for (; i < n; ++i) keys[i] = magnitude_key(widen<C>(x[i]));
}

constexpr int kChunk = 64;
SGF_INLINE int chunk_of(std::int64_t n) { return n < kChunk ? static_cast<int>(n) : kChunk; }

// Where all of a chunk stays, only the mask is read.
template <class T>
void apply_mask(void* data, const std::uint8_t* mask, std::int64_t n) {
  T* x = static_cast<T*>(data);
  for (; n > 0; n -= kChunk, x += kChunk, mask += kChunk) {
    const int count = chunk_of(n);
    int zeros = 0;
    for (int i = 0; i < count; ++i) zeros += mask[i] == 0;
    if (zeros == 0) continue;
    for (int i = 0; i < count; ++i) keep_if(mask[i] != 0, x + i);
  }
}

template <class T>
void keep_at_least(void* data, std::int64_t n, std::uint64_t cut) {
  using Key = key_t<compute_t<T>>;
  T* x = static_cast<T*>(data);
  for (; n > 0; n -= kChunk, x += kChunk) {
    const int count = chunk_of(n);
    Key keys[kChunk];
    load_keys(x, count, keys);
    for (int i = 0; i < count; ++i) keep_if(keys[i] >= static_cast<Key>(cut), x + i);
  }
}

// A weight's rank within its group of m is the number of those that come before it: the larger
// ones, and of equal ones those to the left. Groups are ranked side by side, so that a register's
// lanes are of as many groups.
template <int capacity, class T>
SGF_INLINE void keep_pattern_of(T* x, std::int64_t groups, int keep, int m) {
  using Key = key_t<compute_t<T>>;
  constexpr int together = 32;
  for (; groups > 0; groups -= together, x += together * m) {
    const int count = groups < together ? static_cast<int>(groups) : together;
    Key loaded[capacity * together] = {};
    load_keys(x, count * m, loaded);
    Key keys[capacity][together], ranks[capacity][together] = {};
    for (int i = 0; i < m; ++i) {
      for (int g = 0; g < together; ++g) keys[i][g] = loaded[g * m + i];
    }
    for (int i = 0; i < m; ++i) {
      for (int j = i + 1; j < m; ++j) {
        for (int g = 0; g < together; ++g) {
          const Key left_first = keys[i][g] >= keys[j][g];
          ranks[j][g] += left_first;
          ranks[i][g] += 1 - left_first;
        }
      }
    }
    std::uint8_t kept[capacity * together];
    for (int g = 0; g < together; ++g) {
      for (int i = 0; i < m; ++i) kept[g * m + i] = ranks[i][g] < static_cast<Key>(keep);
    }
    for (int i = 0; i < count * m; ++i) keep_if(kept[i] != 0, x + i);
  }
}

// With m known the compiler turns the exchange of rows and columns into shuffles.
template <class T>
void keep_pattern(void* data, std::int64_t groups, int keep, int m) {
  T* x = static_cast<T*>(data);
  if (m == 4) {
    keep_pattern_of<4>(x, groups, keep, 4);
  } else if (m == 8) {
    keep_pattern_of<8>(x, groups, keep, 8);
  } else {
    keep_pattern_of<kMaxPattern>(x, groups, keep, m);
  }
}

template <int t>
constexpr void fill_sparsify(KernelTable& table) {
  using T = element_t<static_cast<DType>(t)>;
  table.shrink[t] = &shrink<T>;
  table.apply_mask[t] = &apply_mask<T>;
  table.keep_at_least[t] = &keep_at_least<T>;
  table.keep_pattern[t] = &keep_pattern<T>;
  if constexpr (t + 1 < kDTypes) fill_sparsify<t + 1>(table);
}

}  // namespace SGF_ISA
}  // namespace subgrad
