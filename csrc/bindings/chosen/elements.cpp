#include "bindings/chosen/elements.h"

#include <algorithm>
#include <cstdlib>
#include <numeric>
#include <string>

namespace subgrad {
namespace {

template <class T>
std::vector<T> checked(const py::array& given, std::int64_t elements, const std::string& where,
                       const std::string& whose) {
  const T* const from = static_cast<const T*>(given.data());
  const std::vector<T> indices(from, from + given.size());
  std::int64_t last = -1;
  for (std::size_t i = 0; i < indices.size(); ++i) {
    const auto index = static_cast<std::int64_t>(indices[i]);
    if (index < 0 || index >= elements) {
      throw py::value_error(where + ": " + std::to_string(index) + " at position " +
                            std::to_string(i) + " is outside the " + std::to_string(elements) +
                            " elements of " + whose);
    }
    if (index <= last) {
      throw py::value_error(where + ": expected ascending numbers, got " + std::to_string(index) +
                            " after " + std::to_string(last) + " at position " + std::to_string(i));
    }
    last = index;
  }
  return indices;
}

// What an index along a dimension adds to an element's position, counted in the order in which the
// dense step counts: the outermost dimension in the parameter's memory first.
std::vector<std::int64_t> position_strides(const Extents& param) {
  std::vector<int> order(static_cast<std::size_t>(param.ndim()));
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int a, int b) {
    return std::abs(param.strides[a]) > std::abs(param.strides[b]);
  });
  std::vector<std::int64_t> strides(order.size());
  std::int64_t inner = 1;
  for (auto d = order.rbegin(); d != order.rend(); ++d) {
    strides[static_cast<std::size_t>(*d)] = inner;
    inner *= param.shape[*d];
  }
  return strides;
}

}  // namespace

CheckedIndices::CheckedIndices(const py::array& given, std::int64_t elements,
                               const std::string& where, const std::string& whose)
    : elements_(elements), narrow_(given.itemsize() == 4) {
  if (narrow_) {
    small_ = checked<std::int32_t>(given, elements, where, whose);
  } else {
    large_ = checked<std::int64_t>(given, elements, where, whose);
  }
}

std::unique_ptr<const Layout> chosen_layout(const Extents& param, const Extents& grad) {
  if (param.size == 0 || (param.row_major() && grad.row_major())) return nullptr;
  return std::make_unique<const Layout>(param.ndim(), param.shape.data(), param.strides.data(),
                                        grad.strides.data(), position_strides(param).data(), true);
}

}  // namespace subgrad
