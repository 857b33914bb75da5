// One of the arrays that a loader gathers from, and how its part of a batch comes about.
#pragma once

#include <optional>

#include "bindings/loading/rows.h"
#include "bindings/loading/shown.h"

namespace subgrad {

class Field {
 public:
  // Rows of `source` are copied to memory of a pool; the batch's array is like `like`. `source` is
  // a NumPy array, of the very memory of `like` if that is a tensor. See ShownLike for `wrap`.
  static Field pooled(py::array source, const py::object& like, py::object wrap);
  // Rows of `source` are copied to new memory of its library: make(rows) returns the batch's array,
  // and the same memory as kernels see it.
  static Field made(py::object source, py::object make);
  // The batch's array is index(indices): the kernels cannot copy such rows.
  static Field indexed(py::object index);

  bool by_kernels() const { return !source_.is_none(); }
  const ArrayRows& rows() const { return rows_; }  // of the source
  const std::optional<ShownLike>& shown() const { return shown_; }
  const py::object& make() const { return make_; }
  const py::object& index() const { return index_; }

 private:
  py::object source_ = py::none(), make_, index_;
  ArrayRows rows_{};
  std::optional<ShownLike> shown_;
};

}  // namespace subgrad
