#include "bindings/loading/batch_indices.h"

#include <algorithm>
#include <string>

#include "bindings/border/arrays.h"
#include "bindings/sampling/keys.h"
#include "cpu/loading/gather.h"

namespace subgrad {
namespace {

IndexArray as_indices(const py::object& given) {
  if (has_mask(given)) throw py::type_error(std::string("sampler: ") + kMaskedArray);
  if (IndexArray::check_(given)) {
    auto indices = py::reinterpret_borrow<IndexArray>(given);
    if (indices.ndim() == 1) return indices;
  }
  const auto array = py::array::ensure(given);
  if (!array) {
    throw py::type_error(std::string("sampler: expected batches of indices, got ") +
                         Py_TYPE(given.ptr())->tp_name);
  }
  const char kind = array.dtype().kind();
  if (array.ndim() != 1 || (kind != 'i' && kind != 'u' && array.size() > 0)) {
    throw py::type_error("sampler: expected batches of int64 indices in one dimension, got " +
                         std::string(py::str(array.dtype())) + " of shape " +
                         shape_text(static_cast<int>(array.ndim()), array.shape()));
  }
  return py::array_t < std::int64_t, py::array::c_style | py::array::forcecast > (array);
}

}  // namespace

void copy_batch_indices(const py::object& given, std::int64_t count, std::int64_t rows,
                        std::int64_t* out) {
  const IndexArray indices = as_indices(given);
  if (indices.size() != count) {
    throw py::value_error("indices: expected " + std::to_string(count) + ", got " +
                          std::to_string(indices.size()));
  }
  std::copy_n(indices.data(), count, out);
  const std::int64_t at = first_outside(out, count, rows);
  if (at >= 0) {
    throw py::index_error("sampler: index " + std::to_string(out[at]) + " at position " +
                          std::to_string(at) + " of the batch is outside the " +
                          std::to_string(rows) + " rows");
  }
}

}  // namespace subgrad
