// The memory of arrays, of any type, as runs of bytes.
#pragma once

#include <vector>

#include "bindings/loading/rows.h"
#include "cpu/support/huge_pages.h"

namespace subgrad {

// From an array's first byte to its last. None of those on a device, and without elements.
inline std::vector<ByteRun> runs_of(const std::vector<py::object>& arrays) {
  std::vector<ByteRun> runs;
  for (std::size_t i = 0; i < arrays.size(); ++i) {
    const ArrayRows rows = rows_of(arrays[i], {"arrays", static_cast<std::ptrdiff_t>(i)});
    if (!rows.place.on_host() || rows.row_bytes <= 0 || rows.count == 0) continue;
    const std::int64_t last = (rows.count < 0 ? 0 : rows.count - 1) * rows.stride;
    if (last < 0) continue;
    runs.push_back({rows.data, last + rows.row_bytes});
  }
  return runs;
}

}  // namespace subgrad
