#include "bindings/loading/rows.h"

#include <pybind11/numpy.h>

#include <string>

#include "bindings/border/generic_array.h"

namespace subgrad {
namespace {

ArrayRows rows_of_numpy(const py::array& a) {
  ArrayRows rows{};
  rows.data = const_cast<char*>(static_cast<const char*>(a.data()));
  rows.writable = a.writeable();
  rows.contiguous = (a.flags() & py::array::c_style) != 0;
  rows.count = a.ndim() > 0 ? a.shape(0) : -1;
  rows.stride = a.ndim() > 0 ? a.strides(0) : 0;
  rows.contiguous_rows = true;
  rows.row_bytes = a.itemsize();
  for (py::ssize_t d = a.ndim(); d-- > 1; rows.row_bytes *= a.shape(d)) {
    if (a.shape(d) != 1 && a.strides(d) != rows.row_bytes) rows.contiguous_rows = false;
  }
  return rows;
}

}  // namespace

ArrayRows rows_of(const py::object& array, const Where& where) {
  if (py::isinstance<py::array>(array)) return rows_of_numpy(array);
  const GenericArray a = generic_array(array, where);
  ArrayRows rows{};
  rows.data = a.data();
  rows.writable = true;
  rows.contiguous = a.contiguous();
  rows.count = a.tensor.ndim > 0 ? a.tensor.shape[0] : -1;
  rows.stride = a.tensor.ndim > 0 ? a.row_stride() : 0;
  rows.contiguous_rows = a.contiguous_rows();
  rows.row_bytes = a.row_bytes();
  rows.place = a.place;
  return rows;
}

void require_source(const ArrayRows& rows, std::int64_t count, int device, const Where& where) {
  if (rows.count == count && rows.contiguous_rows && rows.place.device == device) return;
  throw py::value_error(where.text() + ": expected " + std::to_string(count) +
                        " contiguous rows on " + device_text(device));
}

void require_fit(const ArrayRows& memory, const ArrayRows& source, std::int64_t count,
                 const Where& where) {
  if (memory.count == count && memory.contiguous && memory.writable &&
      memory.row_bytes == source.row_bytes && memory.place.device == source.place.device) {
    return;
  }
  throw py::value_error(where.text() + ": does not fit its source");
}

bool contiguous_rows(const py::object& array) { return rows_of(array, {"array"}).contiguous_rows; }

}  // namespace subgrad
