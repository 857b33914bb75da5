// What malloc does with memory that is freed. glibc gives large blocks back to the system at once,
// and each backward pass then faults its gradients' pages in anew: that takes longer than the step.
#pragma once

#include <cstdint>
#include <string>

namespace subgrad {

struct Allocator {
  std::string name;  // "glibc 2.36", "musl", the file of another one, ...
  bool adjustable;   // glibc's own malloc is what is called
};
Allocator allocator();

// Has malloc keep what is freed: no block is mapped by itself, and the heap's end is not given
// back. False if malloc refuses. Only where allocator() is adjustable, as the next ones.
bool keep_freed_memory();

// Has malloc do as it does by itself again, as far as it can, and gives free memory back now. The
// size from which blocks are mapped does not grow by itself any more.
bool return_freed_memory();

// Makes the heap at least so many bytes longer, which take no memory until they are used, and has
// them be given huge pages. The bytes of the heap that are to have them: 0 if it did not grow or
// the system has none.
std::int64_t reserve_heap(std::int64_t bytes);

}  // namespace subgrad
