// What the sampling bindings share: index arrays, and the keys of draws.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <cstdint>

#include "bindings/border/gil.h"
#include "core/philox.h"

namespace subgrad {

namespace py = pybind11;

// Contiguous int64 and float64; Python has converted what users gave.
using IndexArray = py::array_t<std::int64_t, py::array::c_style>;
using WeightArray = py::array_t<double, py::array::c_style>;

// The keys of draws. Details tell apart the positions of an epoch, the draws of choose() and of
// draw(), and draw()'s calls without replacement.
inline std::uint64_t uniform_key(std::uint64_t seed, std::uint64_t epoch) {
  return epoch_key(seed, epoch, Purpose::uniform, 0);
}
inline std::uint64_t choose_key(std::uint64_t seed, std::uint64_t draw) {
  return epoch_key(seed, draw, Purpose::uniform, 1);
}
inline std::uint64_t weighted_key(std::uint64_t seed, std::uint64_t epoch, bool by_epoch) {
  return epoch_key(seed, epoch, Purpose::weighted, by_epoch ? 0 : 1);
}
inline std::uint64_t distinct_key(std::uint64_t seed, std::uint64_t epoch, bool by_epoch) {
  return epoch_key(seed, epoch, Purpose::distinct, by_epoch ? 0 : 2);
}

}  // namespace subgrad
