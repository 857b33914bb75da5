#include "bindings/sampling/target.h"

#include <pybind11/numpy.h>

#include <string>

#include "bindings/border/generic_array.h"

namespace subgrad {
namespace {

[[noreturn]] void refuse_type(const py::object& object, const Where& where) {
  const py::object dtype = py::getattr(
      object, "dtype", py::str(static_cast<const char*>(Py_TYPE(object.ptr())->tp_name)));
  throw py::value_error(where.text() + ": expected int64, got " + std::string(py::str(dtype)));
}

[[noreturn]] void refuse_memory(const Where& where) {
  throw py::value_error(where.text() + ": expected a contiguous and writable array");
}

}  // namespace

IndexTarget::IndexTarget(const py::object& object, const Where& where) : where_(where) {
  using Int64 = py::array_t<std::int64_t, py::array::c_style>;
  const Source source = source_of(object);
  if (has_mask(object)) throw py::type_error(where.text() + ": " + kMaskedArray);
  if (source == Source::exchange) {
    const auto found = generic_array(object, where);
    const DLDataType& dtype = found.tensor.dtype;
    if (dtype.code != kDLInt || dtype.bits != 64 || dtype.lanes != 1) refuse_type(object, where);
    if (!found.contiguous() ||
        reinterpret_cast<std::uintptr_t>(found.data()) % sizeof(std::int64_t) != 0) {
      refuse_memory(where);
    }
    place_ = found.place;
    data_ = reinterpret_cast<std::int64_t*>(found.data());
    count_ = found.size();
    ndim_ = found.tensor.ndim;
    return;
  }
  // A tensor of an older torch shares its memory with a NumPy array.
  owner_ = source == Source::attributes ? object.attr("numpy")() : object;
  if (!py::isinstance<py::array_t<std::int64_t>>(owner_)) refuse_type(object, where);
  if (!Int64::check_(owner_)) refuse_memory(where);
  auto array = py::reinterpret_borrow<Int64>(owner_);
  if (!array.writeable()) refuse_memory(where);
  data_ = array.mutable_data();
  count_ = array.size();
  if (source == Source::attributes && count_ > 0 && is_freed(object, data_, sizeof *data_)) {
    throw py::value_error(where.text() + ": has no memory of its own");
  }
  ndim_ = static_cast<int>(array.ndim());
}

}  // namespace subgrad
