// The gather ring: all that its one caller may do while the worker works, and its end in mid-work.
#include "cpu/loading/ring.h"

#include <algorithm>
#include <chrono>

#include "cpu/support/parallel.h"
#include "jobs.h"

namespace {

using subgrad::GatherRing;
using subgrad::RowSource;

constexpr std::int64_t kRows = 5000;

// Arrays with rows of a few bytes and of many, and slots of a ring with room for batches of them.
class Arrays {
 public:
  explicit Arrays(int slots) : outputs_(static_cast<std::size_t>(slots)) {
    for (std::size_t i = 0; i < kBytes.size(); ++i) {
      data_.push_back(floats(static_cast<std::size_t>(kRows) * kBytes[i] / sizeof(float), i + 1));
    }
  }

  std::vector<RowSource> sources() const {
    std::vector<RowSource> all;
    for (std::size_t i = 0; i < kBytes.size(); ++i) {
      const auto bytes = static_cast<std::int64_t>(kBytes[i]);
      all.push_back({reinterpret_cast<const char*>(data_[i].data()), bytes, bytes});
    }
    return all;
  }

  void bind(GatherRing& ring, int slot, std::int64_t rows) {
    auto& outputs = outputs_[static_cast<std::size_t>(slot)];
    outputs.clear();
    char** const pointers = ring.prepare(slot, rows);
    for (std::size_t i = 0; i < kBytes.size(); ++i) {
      outputs.emplace_back(static_cast<std::size_t>(rows) * kBytes[i]);
      pointers[i] = outputs.back().data();
    }
  }

  // Reads all of a batch, as a caller does, and writes to it: it is his.
  void use(int slot, const std::vector<std::int64_t>& indices) {
    auto& outputs = outputs_[static_cast<std::size_t>(slot)];
    for (std::size_t i = 0; i < kBytes.size(); ++i) {
      const char* const source = reinterpret_cast<const char*>(data_[i].data());
      for (std::size_t row = 0; row < indices.size(); ++row) {
        char* const here = outputs[i].data() + row * kBytes[i];
        const char* const there = source + static_cast<std::size_t>(indices[row]) * kBytes[i];
        require(std::memcmp(here, there, kBytes[i]) == 0, "a row of a batch");
        std::memset(here, 0x55, kBytes[i]);
      }
    }
  }

 private:
  inline static const std::vector<std::size_t> kBytes = {4, 1024, 12};
  std::vector<std::vector<float>> data_;
  std::vector<std::vector<std::vector<char>>> outputs_;
};

void fill(GatherRing& ring, int slot, const std::vector<std::int64_t>& indices) {
  std::copy(indices.begin(), indices.end(), ring.indices(slot));
}

// Goes through a ring as a loader does, `ahead` batches in front of the caller, with other things
// in between; leaves it with batches under way.
void go_around(std::int64_t rows, int ahead, std::uint64_t seed) {
  Numbers numbers(seed);
  Arrays arrays(2 * ahead);
  GatherRing ring(arrays.sources(), 2 * ahead);
  std::vector<std::vector<std::int64_t>> indices(static_cast<std::size_t>(2 * ahead));
  const auto renew = [&](int slot) -> std::vector<std::int64_t>& {
    auto& chosen = indices[static_cast<std::size_t>(slot)];
    const std::int64_t wanted = numbers.below(4) == 0 ? numbers.below(rows + 1) : rows;
    arrays.bind(ring, slot, wanted);
    chosen.resize(static_cast<std::size_t>(wanted));
    for (std::int64_t& index : chosen) index = numbers.below(kRows);
    return chosen;
  };
  int first = 0, under_way = 0;  // slots that were submitted and not waited for
  for (int turn = 0; turn < 30; ++turn) {
    while (under_way < ahead) {
      const int slot = (first + under_way++) % ring.slots();
      fill(ring, slot, renew(slot));
      ring.submit(slot);
    }
    if (numbers.below(8) == 0) {  // the caller left his loop and begins another
      ring.cancel();
      under_way = 0;
      fill(ring, first, renew(first));
      ring.gather(first);
      arrays.use(first, indices[static_cast<std::size_t>(first)]);
      continue;
    }
    if (numbers.below(2) == 0) std::this_thread::yield();
    ring.wait(first);
    arrays.use(first, indices[static_cast<std::size_t>(first)]);
    first = (first + 1) % ring.slots();
    --under_way;
  }
}

}  // namespace

void ring_jobs() {
  // Batches of one part and of many, waited for by one thread and by several.
  std::uint64_t seed = 0;
  for (const int threads : {1, 4}) {
    subgrad::set_num_threads(threads);
    for (const std::int64_t rows : {0, 1, 7, 64, 300, 2500}) {
      for (const int ahead : {1, 2, 5}) go_around(rows, ahead, ++seed);
    }
  }
  at_once(3, [](int i) { go_around(300, 2, 1000 + static_cast<std::uint64_t>(i)); });
}

void race_with_a_ring_worker() {
  std::vector<float> data(1 << 20);
  std::vector<float> batch(data.size());
  std::vector<std::int64_t> indices(data.size());
  GatherRing ring({{reinterpret_cast<const char*>(data.data()), 4, 4}}, 1);
  *ring.prepare(0, 1 << 20) = reinterpret_cast<char*>(batch.data());
  fill(ring, 0, indices);
  ring.submit(0);
  std::this_thread::sleep_for(std::chrono::milliseconds(20));  // the worker has begun
  data[0] = 1.0f;
  ring.wait(0);
}
