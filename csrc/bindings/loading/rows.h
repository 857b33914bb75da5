// An array as rows of bytes, whatever its elements are.
#pragma once

#include "bindings/border/place.h"
#include "core/work.h"

namespace subgrad {

struct ArrayRows {
  char* data;
  std::int64_t count;  // -1: it has no dimension
  std::int64_t stride, row_bytes;
  bool contiguous_rows;  // each row is one run of bytes
  bool contiguous, writable;
  Place place;

  RowSource source() const { return {data, stride, row_bytes}; }
};

// Of a NumPy array, or of a tensor that hands its memory out.
ArrayRows rows_of(const py::object& array, const Where& where);

// Raise ValueError for a source that has not `count` contiguous rows on a device, and for memory
// that is none for so many rows of a source.
void require_source(const ArrayRows& rows, std::int64_t count, int device, const Where& where);
void require_fit(const ArrayRows& memory, const ArrayRows& source, std::int64_t count,
                 const Where& where);

// Whether each row is one run of bytes. Strides of dimensions that have one element do not matter.
bool contiguous_rows(const py::object& array);

}  // namespace subgrad
