#include "bindings/clip/squares.h"

#include <string>

namespace subgrad {

py::array_t<double> as_array(const SquareSums& sums) {
  py::array_t<double> array({static_cast<py::ssize_t>(sums.size()), py::ssize_t{2}});
  auto to = array.mutable_unchecked<2>();
  for (std::size_t i = 0; i < sums.size(); ++i) {
    to(static_cast<py::ssize_t>(i), 0) = sums[i].value;
    to(static_cast<py::ssize_t>(i), 1) = sums[i].exponent;
  }
  return array;
}

SquareSums read_squares(const py::object& squares, std::size_t count) {
  const auto array = squares.cast<py::array_t<double>>();
  if (array.ndim() != 3 || array.shape(1) != static_cast<py::ssize_t>(count) ||
      array.shape(2) != 2) {
    throw py::value_error("squares: expected shape (processes, " + std::to_string(count) +
                          ", 2), got " + std::string(py::str(array.attr("shape"))));
  }
  const auto from = array.unchecked<3>();
  SquareSums sums(count);
  for (py::ssize_t process = 0; process < array.shape(0); ++process) {
    for (py::ssize_t i = 0; i < array.shape(1); ++i) {
      sums[static_cast<std::size_t>(i)].add(
          {from(process, i, 0), static_cast<int>(from(process, i, 1))});
    }
  }
  return sums;
}

}  // namespace subgrad
