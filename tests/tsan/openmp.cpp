// The part of OpenMP that this library uses, on std::thread: it stands in for libgomp under
// ThreadSanitizer, which does not see how libgomp's threads wait for each other and takes that for
// races. GCC's names and meanings (libgomp/libgomp_g.h): a region starts threads and joins them,
// and has one loop, whose iterations are handed out; nothing else orders what they do.
#include <omp.h>

#include <algorithm>
#include <atomic>
#include <thread>
#include <vector>

namespace {

// More than there are cores most often, so that threads are interrupted anywhere.
constexpr int kThreads = 4;

// A thread's place in a region: all threads of it have the same loop and take from one counter.
struct Place {
  std::atomic<long>* taken = nullptr;
  long begin = 0, end = 0, chunk = 0;
};
thread_local Place place;

void run_region(void (*body)(void*), void* data, unsigned threads, const Place& loop) {
  std::atomic<long> taken{0};
  const auto run = [&] {
    const Place outer = place;
    place = loop;
    place.taken = &taken;
    body(data);
    place = outer;
  };
  std::vector<std::thread> others;
  for (unsigned i = 1; i < threads; ++i) others.emplace_back(run);
  run();
  for (std::thread& other : others) other.join();
}

}  // namespace

extern "C" {

int omp_get_max_threads() noexcept { return kThreads; }
int omp_in_parallel() noexcept { return place.taken != nullptr ? 1 : 0; }

bool GOMP_loop_nonmonotonic_dynamic_next(long* begin, long* end) {
  // Relaxed, as who takes which iterations must not be what orders their memory.
  *begin = place.begin + place.taken->fetch_add(place.chunk, std::memory_order_relaxed);
  *end = std::min(*begin + place.chunk, place.end);
  return *begin < place.end;
}

// The two halves of a loop in a region, and both in one: which it is depends on the optimizer.
void GOMP_parallel(void (*body)(void*), void* data, unsigned threads, unsigned) {
  run_region(body, data, threads, {});
}
bool GOMP_loop_nonmonotonic_dynamic_start(long begin, long end, long step, long chunk, long* first,
                                          long* last) {
  place = {place.taken, begin, end, step * chunk};
  return GOMP_loop_nonmonotonic_dynamic_next(first, last);
}
void GOMP_parallel_loop_nonmonotonic_dynamic(void (*body)(void*), void* data, unsigned threads,
                                             long begin, long end, long step, long chunk,
                                             unsigned) {
  run_region(body, data, threads, {nullptr, begin, end, step * chunk});
}

void GOMP_loop_end_nowait() {}

}  // extern "C"
