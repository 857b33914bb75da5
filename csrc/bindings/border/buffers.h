// Momentum memory of our own making, which whoever points into it can keep from being freed: a
// tensor may let go of what lies beneath it while a kernel runs.
#pragma once

#include <cstdint>
#include <memory>

#include "bindings/border/arrays.h"

namespace subgrad {

// A DLPack capsule of memory with the dtype, shape and order of elements of `like`; row-major where
// that is not dense. Uninitialised, or of zeros: pages that nobody has touched then take no memory.
py::capsule new_buffer(py::handle like, bool zeros);

// A share in the memory that begins at `data`, which keeps it from being freed; null if it is not
// ours.
std::shared_ptr<void> find_buffer(const void* data);

}  // namespace subgrad
