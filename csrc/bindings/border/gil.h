// When the GIL is worth releasing: work on few elements is over before another thread could have
// taken it.
#pragma once

#include <pybind11/pybind11.h>

#include <cstdint>
#include <optional>

namespace subgrad {

namespace py = pybind11;

// Elements of a step, each of which costs well under a nanosecond; numbers that are drawn, looked
// up or sorted cost more.
inline constexpr std::int64_t kStepElements = 8 << 10, kDrawnElements = 1 << 10;

template <class Body>
void without_gil(std::int64_t count, std::int64_t least, const Body& body) {
  std::optional<py::gil_scoped_release> release;
  if (count >= least) release.emplace();
  body();
}

template <class Body>
void without_gil(std::int64_t count, const Body& body) {
  without_gil(count, kDrawnElements, body);
}

}  // namespace subgrad
