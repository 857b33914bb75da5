// What the driver does, and what its files share.
#pragma once

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

// Ends the program if a result is wrong: a race may show so before it is seen as one.
inline void require(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "sgf_threads: wrong result: %s\n", what);
  std::abort();
}

// body(i) for all i < n, each in a thread of its own.
template <class Body>
void at_once(int n, const Body& body) {
  std::vector<std::thread> threads;
  for (int i = 0; i < n; ++i) threads.emplace_back([&body, i] { body(i); });
  for (std::thread& thread : threads) thread.join();
}

// Numbers of both signs and several sizes, with some ties; the same for the same seed.
class Numbers {
 public:
  explicit Numbers(std::uint64_t seed) : state_(seed * 2 + 1) {}
  std::uint64_t word() {
    state_ ^= state_ << 13;
    state_ ^= state_ >> 7;
    state_ ^= state_ << 17;
    return state_;
  }
  std::int64_t below(std::int64_t n) { return static_cast<std::int64_t>(word() >> 1) % n; }
  float next() { return static_cast<float>(below(4001) - 2000) / 64.0f; }

 private:
  std::uint64_t state_;
};

inline std::vector<float> floats(std::size_t n, std::uint64_t seed) {
  Numbers numbers(seed);
  std::vector<float> x(n);
  for (float& value : x) value = numbers.next();
  return x;
}

// The bytes of results, for comparisons.
struct Bytes {
  std::string all;
  template <class T>
  void add(const T* from, std::size_t n) {
    all.append(reinterpret_cast<const char*>(from), n * sizeof(T));
  }
  template <class T>
  void add(const std::vector<T>& from) {
    add(from.data(), from.size());
  }
};

void first_use();                // of the kernels, by many threads: must be the first job
void ring_jobs();                // a gather ring and its worker
void weight_jobs();              // draws and changes at once
void kernel_jobs();              // every loop that is shared among threads, by several callers
void race_between_calls();       // two calls on one array: must be reported
void race_in_a_region();         // two iterations on one element: must be reported
void race_with_a_ring_worker();  // a change to what a batch is gathered from: must be reported
