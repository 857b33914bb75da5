// From the runs that threads reported to one list per tensor.
#pragma once

#include <cstdint>
#include <vector>

#include "cpu/support/layout.h"
#include "cpu/threshold/threshold.h"

namespace subgrad {

// Where a tensor's list goes: as many indices and values as were kept of it.
struct KeptList {
  char* indices;
  char* values;
  std::size_t value_bytes;
  // Null, or the tensor's own order of elements, in which they were counted: its param strides are
  // the array's, its grad strides row-major ones in units of one element. The list is then put in
  // row-major order.
  const Layout* order;
};

// Writes the runs to their lists, in order.
void place(const std::vector<KeptRun>& runs, int index_bytes, const std::vector<KeptList>& lists);

}  // namespace subgrad
