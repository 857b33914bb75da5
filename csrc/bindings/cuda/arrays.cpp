#include "bindings/cuda/arrays.h"

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

std::int64_t CudaArray::row_bytes() const { return elements(tensor, 1) * itemsize(); }
std::int64_t CudaArray::row_stride() const { return stride_of(tensor, 0) * itemsize(); }
bool CudaArray::contiguous_rows() const { return tensor.ndim > 0 && one_run(tensor, 1); }
bool CudaArray::contiguous() const { return one_run(tensor, 0); }

std::optional<CudaArray> find_cuda_array(py::handle object) {
  const DLPackExchangeAPI* api = exchange_api(Py_TYPE(object.ptr()));
  if (api == nullptr || !has_strided_layout(object)) return std::nullopt;
  CudaArray array{};
  array.api = api;
  if (api->dltensor_from_py_object_no_sync(object.ptr(), &array.tensor) != 0) {
    PyErr_Clear();
    return std::nullopt;
  }
  const std::int32_t type = array.tensor.device.device_type;
  if (type != kDLCUDA && type != kDLCUDAManaged) return std::nullopt;
  array.device = array.tensor.device.device_id;
  return array;
}

CudaArray cuda_array(py::handle object, const Where& where) {
  const std::optional<CudaArray> array = find_cuda_array(object);
  if (!array.has_value()) {
    throw py::type_error(where.text() +
                         ": expected an int64 array, or a tensor on a CUDA device, got " +
                         Py_TYPE(object.ptr())->tp_name);
  }
  if (array->tensor.data == nullptr && elements(array->tensor, 0) > 0) {
    throw py::value_error(where.text() + ": has no memory of its own");
  }
  if (has_negation(object)) throw py::value_error(where.text() + ": is a negated view");
  return *array;
}

CudaIndices cuda_indices(py::handle object, const Where& where) {
  const CudaArray array = cuda_array(object, where);
  const DLDataType& dtype = array.tensor.dtype;
  if (dtype.code != kDLInt || dtype.bits != 64 || dtype.lanes != 1 || !array.contiguous() ||
      reinterpret_cast<std::uintptr_t>(array.data()) % sizeof(std::int64_t) != 0) {
    throw py::value_error(where.text() + ": expected contiguous int64 on " +
                          device_text(array.device));
  }
  return {array, reinterpret_cast<std::int64_t*>(array.data()), elements(array.tensor, 0)};
}

}  // namespace subgrad
