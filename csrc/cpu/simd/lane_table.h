// For instruction sets that cannot compress a register: which lanes a mask keeps, by table.
#pragma once

#include <cstdint>

#include "core/macros.h"

namespace subgrad {
inline namespace SGF_ISA {

// packed[bits]: the numbers of the lanes in `bits`, ascending, one byte each from the lowest; zeros
// behind them.
template <int lanes>
struct LaneTable {
  std::uint64_t packed[1 << lanes];
  constexpr LaneTable() : packed() {
    for (int bits = 0; bits < 1 << lanes; ++bits) {
      int kept = 0;
      for (int lane = 0; lane < lanes; ++lane) {
        if ((bits >> lane & 1) == 0) continue;
        packed[bits] |= static_cast<std::uint64_t>(lane) << (8 * kept++);
      }
    }
  }
};

}  // namespace SGF_ISA
}  // namespace subgrad
