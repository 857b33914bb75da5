#include "cpu/threshold/report.h"

#include <algorithm>
#include <cstring>

namespace subgrad {
namespace {

// The row-major index of the element that is `position`-th in the order of the layout.
std::int64_t row_major(const Layout& order, std::int64_t position) {
  std::int64_t index = 0;
  for (std::size_t d = order.dims.size(); d-- > 0;) {
    index += position % order.dims[d].size * order.dims[d].grad_stride;
    position /= order.dims[d].size;
  }
  return index;
}

template <class Index, class Value>
void reorder(const Layout& order, Index* indices, Value* values, std::size_t n) {
  struct Entry {
    Index index;
    Value value;
  };
  std::vector<Entry> entries(n);
  for (std::size_t i = 0; i < n; ++i) {
    entries[i] = {static_cast<Index>(row_major(order, indices[i])), values[i]};
  }
  std::sort(entries.begin(), entries.end(),
            [](const Entry& a, const Entry& b) { return a.index < b.index; });
  for (std::size_t i = 0; i < n; ++i) {
    indices[i] = entries[i].index;
    values[i] = entries[i].value;
  }
}

template <class Index>
void reorder(const KeptList& list, std::size_t n) {
  auto* indices = reinterpret_cast<Index*>(list.indices);
  if (list.value_bytes == sizeof(double)) {
    reorder(*list.order, indices, reinterpret_cast<double*>(list.values), n);
  } else {
    reorder(*list.order, indices, reinterpret_cast<float*>(list.values), n);
  }
}

}  // namespace

void place(const std::vector<KeptRun>& runs, int index_bytes, const std::vector<KeptList>& lists) {
  std::vector<std::size_t> placed(lists.size());
  for (const KeptRun& run : runs) {
    const KeptList& list = lists[run.tensor];
    std::size_t& n = placed[run.tensor];
    if (run.count == 0) continue;
    std::memcpy(list.indices + n * static_cast<std::size_t>(index_bytes), run.indices.data(),
                run.indices.size());
    std::memcpy(list.values + n * list.value_bytes, run.values.data(), run.values.size());
    n += static_cast<std::size_t>(run.count);
  }
  for (std::size_t i = 0; i < lists.size(); ++i) {
    if (lists[i].order == nullptr) continue;
    index_bytes == 4 ? reorder<std::int32_t>(lists[i], placed[i])
                     : reorder<std::int64_t>(lists[i], placed[i]);
  }
}

}  // namespace subgrad
