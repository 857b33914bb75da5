#include "cpu/loading/ring.h"

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <system_error>
#include <thread>

#if defined(__linux__)
#include <pthread.h>
#endif

namespace subgrad {
namespace {

// What a thread takes at a time: some 10 us of copying, against a few ns for taking it.
constexpr std::int64_t kChunkBytes = 64 << 10;

// How often to offer the core before sleeping.
constexpr int kYields = 100;

// How long the worker rests after it has made room for others.
constexpr std::chrono::microseconds kRest{200};

// Below this many bytes per thread a parallel region costs more than it saves.
constexpr std::int64_t kBytesPerThread = 256 << 10;

int threads_for(std::int64_t bytes) {
  return static_cast<int>(std::clamp<std::int64_t>(bytes / kBytesPerThread, 1, num_threads()));
}

}  // namespace

struct GatherRing::Worker {
  using Clock = std::chrono::steady_clock;
  std::mutex mutex;
  std::condition_variable changed;
  std::deque<Slot*> queue;
  std::atomic<Slot*> active{nullptr};  // the worker may write to it; changed under the mutex
  std::atomic<bool> held{false};       // the worker is to take nothing; changed under the mutex
  Clock::time_point rest_until{};      // nor before then
  bool stop = false;
  std::thread thread;
};

GatherRing::GatherRing(std::vector<RowSource> sources, int slots) : sources_(std::move(sources)) {
  for (const RowSource& s : sources_) row_bytes_ += s.row_bytes;
  chunk_rows_ = std::max<std::int64_t>(1, kChunkBytes / std::max<std::int64_t>(1, row_bytes_));
  for (int i = 0; i < slots; ++i) {
    slots_.push_back(std::make_unique<Slot>());
    slots_.back()->outputs.resize(sources_.size());
  }
}

GatherRing::~GatherRing() {
  cancel();
  if (worker_ == nullptr || forked()) return;
  {
    const std::lock_guard lock(worker_->mutex);
    worker_->stop = true;
  }
  worker_->changed.notify_all();
  worker_->thread.join();
  delete worker_;
}

char** GatherRing::prepare(int slot, std::int64_t rows) {
  at(slot).indices.resize(static_cast<std::size_t>(rows));
  at(slot).rows = rows;
  return at(slot).outputs.data();
}

void GatherRing::start(Slot& slot) {
  slot.chunks = (slot.rows + chunk_rows_ - 1) / chunk_rows_;
  slot.next_chunk.store(0);
}

// Fills the next part that nobody has taken; false if there is none.
bool GatherRing::fill_chunk(Slot& slot) const {
  const std::int64_t chunk = slot.next_chunk.fetch_add(1);
  if (chunk >= slot.chunks) return false;
  const std::int64_t begin = chunk * chunk_rows_;
  const std::int64_t n = std::min(chunk_rows_, slot.rows - begin);
  for (std::size_t i = 0; i < sources_.size(); ++i) {
    gather_rows(sources_[i], slot.outputs[i] + begin * sources_[i].row_bytes,
                slot.indices.data() + begin, n);
  }
  return true;
}

// What is left of a slot.
std::int64_t GatherRing::bytes_left(const Slot& slot) const {
  const std::int64_t left = std::max<std::int64_t>(0, slot.chunks - slot.next_chunk.load());
  return left * chunk_rows_ * row_bytes_;
}

// Fills what is left of a slot.
void GatherRing::finish(Slot& slot, int threads) const {
  parallel_for(threads, threads, [&](std::int64_t) {
    while (fill_chunk(slot)) {
    }
  });
}

void GatherRing::gather(int slot) {
  start(at(slot));
  const std::int64_t bytes = bytes_left(at(slot));
  const Region region(history_, threads_for(bytes), bytes);
  finish(at(slot), region.threads());
}

void GatherRing::submit(int slot) {
  Slot& s = at(slot);
  start(s);
  s.pending = true;
  if (forked()) return;  // wait() does it all: a child works without threads (see parallel.h)
  if (worker_ == nullptr) {
    auto worker = std::make_unique<Worker>();
    try {
      worker->thread = std::thread([this, w = worker.get()] { work(*w); });
#if defined(__linux__)
      pthread_setname_np(worker->thread.native_handle(), "subgrad_gather");  // for top, gdb …
#endif
    } catch (const std::system_error&) {
      return;  // no thread to be had: wait() does it all
    }
    worker_ = worker.release();
  }
  {
    const std::lock_guard lock(worker_->mutex);
    worker_->queue.push_back(&s);
  }
  worker_->changed.notify_all();
}

void GatherRing::wait(int slot) {
  Slot& s = at(slot);
  if (!s.pending) return;
  s.pending = false;
  if (worker_ == nullptr || forked()) {
    start(s);  // anew: what the parent's worker had taken may be undone
    const Region region(history_, threads_for(bytes_left(s)), bytes_left(s));
    finish(s, region.threads());
    return;
  }
  // OpenMP's threads spin for milliseconds after their last work, which may have been torch's, and
  // take half of its core from the worker. So they do what is left, and the worker makes room: for
  // a while, lest it be woken on a core that is at work for a caller who is back in no time.
  const std::int64_t bytes = bytes_left(s);
  const Region region(history_, threads_for(bytes), bytes);
  const int threads = region.threads();
  if (threads > 1) hold(true);
  finish(s, threads);
  withdraw(s);
  if (threads > 1) hold(false);
}

void GatherRing::hold(bool on) {
  const std::lock_guard lock(worker_->mutex);
  worker_->held = on;
  worker_->rest_until = Worker::Clock::now() + kRest;
}

// Takes a slot out of the queue and waits until the worker has let go of it.
void GatherRing::withdraw(Slot& slot) {
  Worker& worker = *worker_;
  std::unique_lock lock(worker.mutex);
  const auto withdrawn = [&] {
    auto& queue = worker.queue;
    queue.erase(std::remove(queue.begin(), queue.end(), &slot), queue.end());
    return worker.active != &slot;
  };
  if (withdrawn()) return;
  // The worker is in its last chunk: to sleep and be woken would take longer. And if it has lost
  // its core, it gets this one.
  lock.unlock();
  for (int i = 0; i < kYields && worker.active.load() == &slot; ++i) std::this_thread::yield();
  lock.lock();
  worker.changed.wait(lock, withdrawn);
}

void GatherRing::cancel() {
  for (const auto& slot : slots_) {
    if (!slot->pending) continue;
    slot->pending = false;
    slot->next_chunk.store(slot->chunks);  // the worker finishes the chunk it is in
    if (worker_ != nullptr && !forked()) withdraw(*slot);
  }
}

void GatherRing::work(Worker& worker) const {
  std::unique_lock lock(worker.mutex);
  while (true) {
    worker.changed.wait(lock, [&] { return worker.stop || !worker.queue.empty(); });
    if (worker.stop) return;
    if (worker.held || Worker::Clock::now() < worker.rest_until) {
      lock.unlock();
      std::this_thread::sleep_for(kRest);
      lock.lock();
      continue;
    }
    Slot& slot = *worker.queue.front();
    worker.queue.pop_front();
    worker.active = &slot;
    lock.unlock();
    while (!worker.held && fill_chunk(slot)) {
    }
    lock.lock();
    worker.active = nullptr;
    if (worker.held) worker.queue.push_front(&slot);  // there may be more of it to do
    worker.changed.notify_all();
  }
}

}  // namespace subgrad
