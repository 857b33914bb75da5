#include "bindings/border/generic_array.h"

#include <string>

namespace subgrad {
namespace {

// Elements from one index of dimension d to the next. No strides: row-major.
std::int64_t stride_of(const DLTensor& t, int d) {
  if (t.strides != nullptr) return t.strides[d];
  std::int64_t stride = 1;
  for (int e = d + 1; e < t.ndim; ++e) stride *= t.shape[e];
  return stride;
}

std::int64_t elements(const DLTensor& t, int first) {
  std::int64_t n = 1;
  for (int d = first; d < t.ndim; ++d) n *= t.shape[d];
  return n;
}

// Whether the dimensions from `first` on are one run. Strides of single elements do not matter, nor
// do any where there are none.
bool one_run(const DLTensor& t, int first) {
  if (elements(t, first) == 0) return true;
  std::int64_t stride = 1;
  for (int d = t.ndim; d-- > first; stride *= t.shape[d]) {
    if (t.shape[d] != 1 && stride_of(t, d) != stride) return false;
  }
  return true;
}

}  // namespace

std::int64_t GenericArray::row_bytes() const { return elements(tensor, 1) * itemsize(); }
std::int64_t GenericArray::row_stride() const { return stride_of(tensor, 0) * itemsize(); }
bool GenericArray::contiguous_rows() const { return tensor.ndim > 0 && one_run(tensor, 1); }
bool GenericArray::contiguous() const { return one_run(tensor, 0); }

std::int64_t GenericArray::size() const { return elements(tensor, 0); }

std::optional<int> device_of(py::handle object) {
  if (source_of(object) != Source::exchange || !has_strided_layout(object)) return std::nullopt;
  DLTensor t;
  const DLPackExchangeAPI* api = exchange_api(Py_TYPE(object.ptr()));
  if (api->dltensor_from_py_object_no_sync(object.ptr(), &t) != 0) {
    PyErr_Clear();
    return std::nullopt;
  }
  const bool on_device = t.device.device_type == kDLCUDA || t.device.device_type == kDLCUDAManaged;
  return on_device ? std::optional<int>(t.device.device_id) : std::nullopt;
}

GenericArray generic_array(py::handle object, const Where& where) {
  const DLPackExchangeAPI* api = exchange_api(Py_TYPE(object.ptr()));
  GenericArray array{};
  if (api == nullptr || !has_strided_layout(object) ||
      api->dltensor_from_py_object_no_sync(object.ptr(), &array.tensor) != 0) {
    PyErr_Clear();
    throw py::type_error(where.text() + ": expected a NumPy array or a dense tensor, got " +
                         Py_TYPE(object.ptr())->tp_name);
  }
  const std::int32_t type = array.tensor.device.device_type;
  const bool on_device = type == kDLCUDA || type == kDLCUDAManaged;
  array.place = {on_device ? array.tensor.device.device_id : kHost, api};
  if (!on_device && type != kDLCPU && type != kDLCUDAHost) {
    throw py::value_error(where.text() + ": expected CPU or CUDA memory");
  }
  if (is_freed(object, array.data(), array.itemsize()) && array.size() > 0) {
    throw py::value_error(where.text() + ": has no memory of its own");
  }
  if (has_negation(object)) throw py::value_error(where.text() + ": is a negated view");
  return array;
}

}  // namespace subgrad
