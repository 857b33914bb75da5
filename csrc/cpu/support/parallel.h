// Threads: OpenMP's pool, which is torch's as well when torch is loaded (one libgomp per process),
// so torch.set_num_threads is respected and no second pool competes for the cores.
#pragma once

#include <cstdint>

#if defined(_OPENMP)
#include <omp.h>
#endif

namespace subgrad {

// Overrides the number of threads for this process; 0 follows OpenMP's (and so torch's) setting.
void set_num_threads(int n);

// How many calls of fork() since the library was loaded led to this process. In a child, threads of
// the parent, libgomp's pool included, do not exist.
unsigned forks();
inline bool forked() { return forks() > 0; }

// How many threads a large enough step would use now: 1 inside a parallel region and in a process
// made by fork(), because libgomp's pool does not survive a fork and a region there would hang.
int num_threads();

// Beyond any machine's cores: as many threads as a typing error asks for would be the process's
// end, since OpenMP aborts where the system gives it no thread.
inline constexpr int kMaxThreads = 1024;

// Who says so: "set_num_threads", "OpenMP" (and so torch), or "fork".
const char* threads_decided_by();

// Calls body(slot) for every slot in [0, slots), slots handed out in ascending order, at most
// `threads` at a time. The body must not throw. Which thread takes which slot is left open, so
// results must not depend on it.
template <class Body>
void parallel_for(int threads, std::int64_t slots, const Body& body) {
#if defined(_OPENMP)
  if (threads > 1 && slots > 1) {
#pragma omp parallel for num_threads(threads) schedule(dynamic, 1)
    for (std::int64_t slot = 0; slot < slots; ++slot) body(slot);
    return;
  }
#endif
  for (std::int64_t slot = 0; slot < slots; ++slot) body(slot);
}

}  // namespace subgrad
