#include "cpu/support/regions.h"

#include <algorithm>

#include "cpu/support/cpus.h"

namespace subgrad {
namespace {

std::atomic<bool> measured{true};
std::atomic<int> alone_now{0};
std::atomic<float> told_parallel{0.0F}, told_alone{0.0F};

// A loop's first passages: every other one goes alone, as the very first meets cold pages. What the
// quickest of them takes is what is known first.
constexpr int kFirstSamples = 3;

// The most, as a share of it, by which one passage changes what is known of passages alone.
constexpr float kStep = 1.0F / 8.0F;

// One passage in so many for each thread goes alone for its time: at most 0.4% of the time.
constexpr int kProbe = 256;

// A trial begins so near to the limit that one bad loss ends it.
constexpr float kTrial = RegionHistory::kLimit - RegionHistory::kMostLost;

// The processors at the first region: to ask at each would cost more than a region may.
bool several_cpus() {
  static const bool several = cpus().several();
  return several;
}

}  // namespace

void set_adaptive(bool on) { measured.store(on, std::memory_order_relaxed); }
bool adaptive() { return measured.load(std::memory_order_relaxed); }
int loops_alone() { return alone_now.load(std::memory_order_relaxed); }

void set_region_times(float parallel, float alone) {
  told_parallel.store(parallel);
  told_alone.store(alone);
}

RegionHistory::~RegionHistory() {
  for (const Size& size : sizes_) {
    if (size.alone.load() > 0) alone_now.fetch_sub(1);
  }
}

std::size_t RegionHistory::class_of(std::int64_t work) {
  int log = 0;
  while (work > 1) work >>= 1, ++log;
  return static_cast<std::size_t>(std::clamp(log - kSmallestClass, 0, kClasses - 1));
}

int RegionHistory::alone(std::int64_t work) const {
  return sizes_[class_of(work)].alone.load(std::memory_order_relaxed);
}

RegionHistory::Passage RegionHistory::begin(int threads, std::int64_t work, bool several) {
  Size& size = sizes_[class_of(work)];
  if (size.held.exchange(true, std::memory_order_acquire)) return {threads, false};
  const Passage passage = size.begin(threads, several);
  size.held.store(false, std::memory_order_release);
  return passage;
}

void RegionHistory::end(const Passage& passage, std::int64_t work, std::int64_t ns) {
  Size& size = sizes_[class_of(work)];
  if (size.held.exchange(true, std::memory_order_acquire)) return;
  size.end(passage, static_cast<float>(ns) / static_cast<float>(std::max<std::int64_t>(work, 1)));
  size.held.store(false, std::memory_order_release);
}

// A number of [0, n): which passages are timed must not fall in step with what a program repeats.
int RegionHistory::Size::draw(int n) {
  random = random * 1664525U + 1013904223U;
  return static_cast<int>((std::uint64_t{random} * static_cast<std::uint64_t>(n)) >> 32);
}

// True for one passage in four.
bool RegionHistory::Size::time_now() {
  if (until_timed-- > 0) return false;
  until_timed = draw(7);
  return true;
}

void RegionHistory::Size::go_alone() {
  alone.store(stretch, std::memory_order_relaxed);
  alone_now.fetch_add(1, std::memory_order_relaxed);
  stretch = std::min(2 * stretch, kLongest);
}

RegionHistory::Passage RegionHistory::Size::begin(int threads, bool several) {
  if (!met) {
    met = true;
    until_probe = kProbe * threads;
    if (!several) go_alone();
  }
  if (const int left = alone.load(std::memory_order_relaxed); left > 0) {
    alone.store(left - 1, std::memory_order_relaxed);
    if (left == 1) {
      alone_now.fetch_sub(1, std::memory_order_relaxed);
      lost = kTrial;
    }
    return {1, samples < kFirstSamples || time_now()};
  }
  if (samples < kFirstSamples) {
    const bool probe = until_timed != 0;
    until_timed = probe ? 0 : 1;
    return {probe ? 1 : threads, probe};
  }
  if (--until_probe <= 0) {
    until_probe = (kProbe / 2 + draw(kProbe)) * threads;
    return {1, true};
  }
  return {threads, lost > 0.0F || time_now()};
}

void RegionHistory::Size::end(const Passage& passage, float ns) {
  if (passage.threads == 1) {
    if (samples < kFirstSamples) {
      unit_ns = samples == 0 ? ns : std::min(unit_ns, ns);
      ++samples;
    } else {
      // Near the median, as steps are bounded: what passages take alone, the ones that are kept
      // waiting among them, is what several threads are to be held against.
      unit_ns += std::clamp(ns - unit_ns, -kStep * unit_ns, kStep * unit_ns);
    }
    return;
  }
  if (samples == 0 || alone.load(std::memory_order_relaxed) > 0) return;
  lost += std::min(ns / std::max(unit_ns, 1e-9F) - 1.0F, kMostLost);
  if (lost >= kLimit) {
    lost = 0.0F;
    go_alone();
  } else if (lost <= -kMostWon) {
    lost = -kMostWon;
    stretch = kShortest;
  }
}

void Region::begin() {
  passage_ = history_.begin(passage_.threads, work_, several_cpus());
  if (passage_.timed) start_ = std::chrono::steady_clock::now();
}

void Region::end() {
  const auto elapsed = std::chrono::steady_clock::now() - start_;
  std::int64_t ns = std::chrono::duration_cast<std::chrono::nanoseconds>(elapsed).count();
  const float told = (passage_.threads > 1 ? told_parallel : told_alone).load();
  if (told > 0.0F) ns = static_cast<std::int64_t>(told * static_cast<float>(work_));
  history_.end(passage_, work_, ns);
}

}  // namespace subgrad
