// Sparse vectors on their way between processes: (index, value) entries are packed into one run of
// bytes, and those of all processes are averaged into a dense vector.
#pragma once

#include <cstdint>
#include <vector>

#include "core/types.h"

namespace subgrad {

// How entries lie in a payload: all indices (4 bytes, or 8), ascending, then as many values. There
// is room for as many entries as fit; a multiple of 16 keeps everything aligned. The values have
// the type of the vector's elements, or 16 bits where those are f32.
struct EntryFormat {
  DType dtype;
  bool wide;

  std::int64_t index_bytes() const { return wide ? 8 : 4; }
  std::int64_t bytes() const { return index_bytes() + static_cast<std::int64_t>(size_of(dtype)); }
};
inline constexpr std::int64_t kEntryGranule = 16;

// What was selected of one tensor: ascending indices of the format's size, counted within the
// tensor, and values, of the format's type or of the type that is computed in. A residual keeps
// what is lost when such a value is rounded to the format's, and what is beyond its range.
struct SelectedEntries {
  const void* indices;
  const void* values;
  std::int64_t count;
  std::int64_t offset;  // of the tensor in the packed vector
  std::int64_t size;    // of the tensor: all indices lie below
  bool computed;        // the values' type
  void* residual;       // or null; has the type that is computed in
};

// Packs the entries of tensors that lie in ascending order in the vector. `capacity`: how many
// entries the payload has room for, at least all of them. The indices have been checked.
void pack_entries(const std::vector<SelectedEntries>& tensors, const EntryFormat& format,
                  std::int64_t capacity, char* payload);

struct Payload {
  const char* data;
  std::int64_t count;
};

// Whether a payload's indices ascend and lie below n.
bool valid_entries(const Payload& payload, const EntryFormat& format, std::int64_t n);

// out[i] = sum over the payloads, in their order, of value * scale, for all i < n; -0.0, the
// additive identity, where none has an entry. The products are rounded to out's type, as they are
// where they go through memory; those of 16-bit types are then summed in f32, and a finite sum
// beyond their range becomes their largest. The entries must be valid.
void merge_entries(const std::vector<Payload>& payloads, const EntryFormat& format,
                   std::int64_t capacity, double scale, DType dtype, void* out, std::int64_t n);

}  // namespace subgrad
