// Packing and merging the entries that processes exchange.
#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <optional>
#include <string>
#include <tuple>

#include "bindings/border/arrays.h"
#include "bindings/border/gil.h"
#include "bindings/border/registrars.h"
#include "bindings/border/written_memory.h"
#include "cpu/exchange/exchange.h"

namespace subgrad {
namespace {

// One payload, or one a row.
using Payloads = py::array_t<std::uint8_t, py::array::c_style>;

// Indices, values, the tensor's offset and its residual or None.
using Part = std::tuple<py::array, py::array, std::int64_t, py::object>;

ArrayView contiguous(const py::object& array, const Where& where) {
  const ArrayView view = view_array(array, where);
  if (view.ndim != 1 ||
      (view.size() > 1 && view.strides[0] * view.stride_unit != view.itemsize())) {
    throw py::value_error(where.text() + ": expected one contiguous dimension");
  }
  return view;
}

bool aligned(const py::array& array, std::size_t bytes) {
  return array.size() == 0 || reinterpret_cast<std::uintptr_t>(array.data()) % bytes == 0;
}

// One run of elements of that many bytes.
bool is_run(const py::array& array, std::int64_t itemsize) {
  return (array.flags() & py::array::c_style) != 0 && array.itemsize() == itemsize &&
         aligned(array, static_cast<std::size_t>(itemsize));
}

// How the entries of a vector are written: its values as they are, or in the 16 bits that are
// named.
EntryFormat format_of(DType vector, bool wide, const std::optional<std::string>& wire) {
  if (!wire) return {vector, wide};
  for (const DType dtype : {DType::bf16, DType::f16}) {
    if (*wire == name_of(dtype) && (vector == DType::f32 || vector == dtype)) return {dtype, wide};
  }
  throw py::value_error("wire: expected a 16-bit type for float32 values, got " + *wire + " for " +
                        name_of(vector));
}

void pack(const py::array& payload, const py::object& like, bool wide,
          const std::vector<Part>& parts, const std::optional<std::string>& wire) {
  const ArrayView vector = contiguous(like, {"like"});
  const EntryFormat format = format_of(vector.dtype, wide, wire);
  if (!Payloads::check_(payload) || !payload.writeable() ||
      !aligned(payload, sizeof(std::int64_t))) {
    throw py::value_error("payload: expected a writable run of bytes, aligned");
  }
  const std::int64_t capacity = payload.nbytes() / format.bytes();
  const DType computed = vector.dtype == DType::f64 ? DType::f64 : DType::f32;
  std::vector<SelectedEntries> tensors;
  std::int64_t total = 0;
  for (std::size_t i = 0; i < parts.size(); ++i) {
    const auto& [indices, values, offset, residual] = parts[i];
    const std::string name = "parts[" + std::to_string(i) + "]";
    const DType given = residual.is_none() ? vector.dtype : computed;
    const auto value_bytes = static_cast<std::int64_t>(size_of(given));
    if (indices.size() != values.size() || !is_run(indices, format.index_bytes()) ||
        !is_run(values, value_bytes)) {
      throw py::value_error(name + ": entries do not fit the payload");
    }
    if (offset < 0 || offset > vector.size()) {
      throw py::value_error(name + ": expected an offset of [0, " + std::to_string(vector.size()) +
                            "], got " + std::to_string(offset));
    }
    std::int64_t size = vector.size() - offset;
    void* rest = nullptr;
    if (!residual.is_none()) {
      const Where where = {"residual", static_cast<std::ptrdiff_t>(i)};
      const ArrayView view = contiguous(residual, where);
      if (view.dtype != computed) {
        throw py::type_error(where.text() + ": expected " + name_of(computed));
      }
      const Extents extents(view);
      require_writable(view, extents, where);
      if (!extents.aligned()) throw py::value_error(where.text() + ": expected aligned memory");
      size = std::min(size, view.size());
      rest = view.data;
    }
    if (!valid_entries({static_cast<const char*>(indices.data()), indices.size()}, format, size)) {
      throw py::value_error(name + ": expected ascending indices below " + std::to_string(size));
    }
    total += indices.size();
    tensors.push_back(
        {indices.data(), values.data(), indices.size(), offset, size, given == computed, rest});
  }
  if (total > capacity || capacity % kEntryGranule != 0) {
    throw py::value_error("payload: no room for " + std::to_string(total) + " entries");
  }
  char* data = static_cast<char*>(py::array(payload).mutable_data());
  without_gil(total, [&] { pack_entries(tensors, format, capacity, data); });
}

void merge(const py::object& out, const Payloads& gathered, const std::vector<std::int64_t>& counts,
           bool wide, double scale, const std::optional<std::string>& wire) {
  const Where where{"out"};
  const ArrayView vector = contiguous(out, where);
  const Extents extents(vector);
  require_writable(vector, extents, where);
  if (!extents.aligned()) throw py::value_error("out: expected aligned memory");
  const EntryFormat format = format_of(vector.dtype, wide, wire);
  if (gathered.ndim() != 2 || gathered.shape(0) != static_cast<py::ssize_t>(counts.size())) {
    throw py::value_error("gathered: expected one row of bytes per count");
  }
  const std::int64_t capacity = gathered.shape(1) / format.bytes();
  if (capacity % kEntryGranule != 0 || gathered.shape(1) % format.bytes() != 0 ||
      !aligned(gathered, sizeof(std::int64_t))) {
    throw py::value_error("gathered: expected rows of whole granules of entries, aligned");
  }
  std::vector<Payload> payloads;
  std::int64_t total = vector.size();
  for (std::size_t rank = 0; rank < counts.size(); ++rank) {
    const char* data = reinterpret_cast<const char*>(gathered.data());
    payloads.push_back({data + static_cast<py::ssize_t>(rank) * gathered.shape(1), counts[rank]});
    if (counts[rank] < 0 || counts[rank] > capacity ||
        !valid_entries(payloads.back(), format, vector.size())) {
      throw py::value_error("gathered: what rank " + std::to_string(rank) + " sent is not " +
                            std::to_string(counts[rank]) + " ascending indices below " +
                            std::to_string(vector.size()));
    }
    total += counts[rank];
  }
  without_gil(total, [&] {
    merge_entries(payloads, format, capacity, scale, vector.dtype, vector.data, vector.size());
  });
}

}  // namespace

void register_exchange(py::module_& m) {
  using namespace py::literals;

  m.attr("GRANULE") = kEntryGranule;
  m.def("pack", &pack, "payload"_a, "like"_a, "wide"_a, "parts"_a, "wire"_a = py::none());
  m.def("merge", &merge, "out"_a, "gathered"_a, "counts"_a, "wide"_a, "scale"_a,
        "wire"_a = py::none());
}

}  // namespace subgrad
