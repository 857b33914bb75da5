// Memory of a pool, shown by the arrays of a batch: NumPy's or tensors, like those that the batch
// is gathered from. The block goes back when the last of them is gone, views and all.
#pragma once

#include <pybind11/numpy.h>

#include <cstdint>
#include <vector>

#include "bindings/border/place.h"
#include "cpu/loading/pool.h"

namespace subgrad {

class ShownLike {
 public:
  // `like`: an array of any number of rows. Where its library takes no memory from others by the
  // exchange interface, `wrap` makes one of its tensors of a NumPy array of the dtype of `raw`.
  ShownLike(const py::object& like, const py::array& raw, py::object wrap);

  // `rows` contiguous rows in the memory of `block`.
  py::object operator()(HeldBlock block, std::int64_t rows) const;

 private:
  py::object array(HeldBlock block, std::int64_t rows) const;
  py::object tensor(HeldBlock block, std::int64_t rows) const;

  std::vector<std::int64_t> shape_, strides_;  // of one row's dimensions behind the first; elements
  py::dtype dtype_;
  py::object wrap_;
  DLDataType type_{};
  const DLPackExchangeAPI* library_ = nullptr;
};

}  // namespace subgrad
