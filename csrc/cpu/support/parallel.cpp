#include "cpu/support/parallel.h"

#include <atomic>

#if defined(__unix__) || defined(__APPLE__)
#include <pthread.h>
#endif

namespace subgrad {
namespace {

std::atomic<int> requested{0};
std::atomic<unsigned> children{0};

#if defined(__unix__) || defined(__APPLE__)
const int at_fork = pthread_atfork(nullptr, nullptr, [] { children.fetch_add(1); });
#endif

}  // namespace

void set_num_threads(int n) { requested.store(n); }

unsigned forks() { return children.load(std::memory_order_relaxed); }

int num_threads() {
#if defined(_OPENMP)
  if (forked() || omp_in_parallel()) return 1;
  const int n = requested.load(std::memory_order_relaxed);
  return n > 0 ? n : omp_get_max_threads();
#else
  return 1;
#endif
}

const char* threads_decided_by() {
  if (forked()) return "fork";
  return requested.load(std::memory_order_relaxed) > 0 ? "set_num_threads" : "OpenMP";
}

}  // namespace subgrad
