// What the sampling bindings share: index arrays, and when the GIL is worth releasing.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <cstdint>
#include <optional>

namespace subgrad {

namespace py = pybind11;

// Contiguous int64 and float64; Python has converted what users gave.
using IndexArray = py::array_t<std::int64_t, py::array::c_style>;
using WeightArray = py::array_t<double, py::array::c_style>;

// Work on fewer elements is over sooner than the GIL is handed on.
constexpr std::int64_t kReleaseGil = 1024;

template <class Body>
void without_gil(std::int64_t count, const Body& body) {
  std::optional<py::gil_scoped_release> release;
  if (count >= kReleaseGil) release.emplace();
  body();
}

}  // namespace subgrad
