// The kernels' own threads and those of their callers, without Python, to be run under
// ThreadSanitizer: it sees every access here, OpenMP's regions included (openmp.cpp).
#include "jobs.h"

int main(int argc, char** argv) {
  const std::string name = argc > 1 ? argv[1] : "";
  if (name == "race-between-calls") {
    race_between_calls();
  } else if (name == "race-in-a-region") {
    race_in_a_region();
  } else if (name == "race-with-a-ring-worker") {
    race_with_a_ring_worker();
  } else if (name.empty()) {
    first_use();
    ring_jobs();
    weight_jobs();
    kernel_jobs();
    std::puts("sgf_threads: all jobs done");
  } else {
    std::fprintf(stderr, "sgf_threads: unknown race '%s'\n", argv[1]);
    return 2;
  }
  return 0;
}
