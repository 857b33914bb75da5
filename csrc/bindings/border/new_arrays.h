// New arrays for results and scratch, made by the library of the arrays that were given: on a
// device its allocator knows the stream that uses the memory.
#pragma once

#include <pybind11/numpy.h>

#include <cstdint>

#include "bindings/border/place.h"

namespace subgrad {

DLDataType dl_type(DType type);
inline constexpr DLDataType kDLBytes = {kDLUInt, 8, 1};
inline constexpr DLDataType kDLInt32 = {kDLInt, 32, 1};
inline constexpr DLDataType kDLInt64 = {kDLInt, 64, 1};

// One dimension of uninitialised elements on a device. The memory lives as long as the object.
struct NewArray {
  py::object object;
  void* data;
};
NewArray new_on_device(const Place& place, DLDataType type, std::int64_t count);

// The elements as Python's numbers, in a list; of an array on a device it waits for them.
py::list read_numbers(const py::object& array);

// A NumPy array as one of a library's, of the same memory; for libraries but torch as it is.
py::object in_library(Source source, const py::array& array);

// The same for raw bits, which become elements of the type of `like`.
py::object as_elements_of(const py::object& like, Source source, const py::array& bits);

}  // namespace subgrad
