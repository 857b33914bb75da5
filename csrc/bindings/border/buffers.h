// Momentum memory of our own making. A tensor may change what lies beneath it without a trace on
// its Python object: share_memory_() moves it (as sending it to another process does), set_() and
// `.data = ...` replace it. Asking every momentum tensor at every step where it is would touch
// memory the step has no other use for; memory that we made tells us when its tensor lets go of it.
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

// How many buffers have been let go so far. While it stays the same, each is where it was.
std::uint64_t buffers_released();

}  // namespace subgrad
