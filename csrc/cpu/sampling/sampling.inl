// Random words and permuted positions in bulk, written once and compiled per instruction set.
// Includes nothing of the standard library on purpose: see core/macros.h on SGF_ISA.
#include "cpu/kernel_table.h"
#include "samplers/permute.h"

namespace subgrad {
inline namespace SGF_ISA {

inline void philox_fill(std::uint64_t key, std::uint64_t low, std::uint64_t high,
                        std::int64_t blocks, std::uint64_t* words) {
  constexpr int width = U64Memory::width;
  std::uint64_t lanes[width];
  for (int lane = 0; lane < width; ++lane) lanes[lane] = low + static_cast<std::uint64_t>(lane);
  U64 counter = U64Memory::load(lanes);
  const U64 mask = splat<U64>(0xffffffffu);
  for (std::int64_t block = 0; block < blocks; block += width) {
    const PhiloxBlock<U64> x = philox<U64>({bit_and(counter, mask), shift_right(counter, 32),
                                            splat<U64>(high & 0xffffffffu), splat<U64>(high >> 32)},
                                           key);
    const U64 first = bit_or(x.x0, shift_left(x.x1, 32));
    const U64 second = bit_or(x.x2, shift_left(x.x3, 32));
    if (blocks - block >= width) {
      U64Memory::store_pairs(words + 2 * block, first, second);
    } else {
      std::uint64_t last[2 * width];
      U64Memory::store_pairs(last, first, second);
      for (std::int64_t i = 0; i < 2 * (blocks - block); ++i) words[2 * block + i] = last[i];
    }
    counter = add(counter, splat<U64>(width));
  }
}

// The walk of many values at once. A pass leaves less than half of them outside [0, n): those move
// together and pass again, so that no lane waits for its neighbours. `values` is read and written
// once.
template <bool forward>
void permute_values(const Permutation& p, std::uint64_t* values, std::int64_t count) {
  if (p.right_bits == 0) {
    const std::uint8_t* table = forward ? p.forward : p.backward;
    for (std::int64_t i = 0; i < count; ++i) values[i] = table[values[i]];
    return;
  }
  constexpr int width = U64Memory::width;
  constexpr int batch = 1024;
  std::uint64_t walking[batch + width] = {};
  std::uint32_t home[batch];
  for (std::int64_t begin = 0; begin < count; begin += batch) {
    std::uint64_t* out = values + begin;
    const int size = static_cast<int>(count - begin < batch ? count - begin : batch);
    for (int i = 0; i < size; ++i) {
      walking[i] = forward ? exchange_first(p, out[i]) : out[i];
      home[i] = static_cast<std::uint32_t>(i);
    }
    for (int left = size; left > 0;) {
      for (int i = 0; i < left; i += width) {
        const U64 x = U64Memory::load(walking + i);
        U64Memory::store(walking + i, forward ? permute_pass(p, x) : unpermute_pass(p, x));
      }
      int kept = 0;
      for (int i = 0; i < left; ++i) {
        const std::uint64_t x = walking[i];
        const std::uint32_t at = home[i];
        out[at] = x;
        walking[kept] = x;
        home[kept] = at;
        kept += x >= p.n ? 1 : 0;
      }
      left = kept;
    }
    if (!forward) {
      for (int i = 0; i < size; ++i) out[i] = exchange_first(p, out[i]);
    }
  }
}

constexpr void fill_sampling(KernelTable& table) {
  table.philox = &philox_fill;
  table.permute = &permute_values<true>;
  table.unpermute = &permute_values<false>;
}

}  // namespace SGF_ISA
}  // namespace subgrad
