#include "cpu/select/select.h"

#include <atomic>
#include <cmath>
#include <cstring>
#include <limits>

#include "core/convert.h"
#include "cpu/select/kth_key.h"
#include "rules/select.h"

namespace subgrad {
namespace {

KeyCounts count_keys(const Block& b, std::int64_t begin, std::int64_t end, std::uint64_t key) {
  return kernels().count_keys[static_cast<int>(b.dtype)](b.at(begin), end - begin, key);
}

// The first `part` elements of a block lie before the boundary.
std::int64_t part_before(const Block& b, const Cut& cut) {
  return std::clamp<std::int64_t>(cut.boundary - b.position, 0, b.n);
}

// Where in a block the element with this key is that has `skipped` others before it.
std::int64_t find_equal(const Block& b, std::uint64_t key, std::int64_t skipped) {
  std::int64_t i = 0;
  with_element(b.dtype, [&](auto element) {
    using T = decltype(element);
    for (; i < b.n; ++i) {
      const auto x = widen<compute_t<T>>(b.element<T>(i));
      if (magnitude_key(x) == key && skipped-- == 0) return;
    }
  });
  return i;
}

// What a block has that reaches a key: index in the block, value in the type that is computed in.
struct Found {
  const std::int32_t* indices;
  const void* values;
  std::int64_t count;
};
struct Scratch {
  std::int32_t indices[kBlockElements + kGatherSlack];
  double values[kBlockElements + kGatherSlack];
};

Found gather(const Block& b, std::uint64_t key, Scratch& scratch) {
  const GatherKeysKernel kernel = kernels().gather_keys[static_cast<int>(b.dtype)];
  const std::int64_t count = kernel(b.data, b.n, key, scratch.indices, scratch.values);
  return {scratch.indices, scratch.values, count};
}

// Writes what a cut keeps of what a block has: `kept` elements, and no more even if another thread
// of the caller changes the array meanwhile.
template <class I, class T>
void write(const Block& b, const Found& found, const Cut& cut, std::int64_t kept, I* indices,
           T* values) {
  using C = compute_t<T>;
  const C* x = static_cast<const C*>(found.values);
  if (kept == found.count) {
    for (std::int64_t i = 0; i < found.count; ++i) {
      indices[i] = static_cast<I>(b.begin + found.indices[i]);
    }
    for (std::int64_t i = 0; i < found.count; ++i) values[i] = Narrow<T>::of(x[i]);
    return;
  }
  const std::int64_t part = part_before(b, cut);
  for (std::int64_t i = 0; i < found.count && kept > 0; ++i) {
    const std::uint64_t key = found.indices[i] < part ? cut.key : cut.behind;
    if (!at_least(x[i], static_cast<key_t<C>>(key))) continue;
    *indices++ = static_cast<I>(b.begin + found.indices[i]);
    *values++ = Narrow<T>::of(x[i]);
    --kept;
  }
}

// Finds a cut and writes what it keeps. The pass that looks for what reaches a key, which may be
// lower than the one that is wanted, keeps copies, so that the rest of the work is about those and
// the arrays are read once. What there is no room for is read again.
class Search {
 public:
  explicit Search(const std::vector<Span>& spans)
      : spans_(spans), threads_(threads_for(bytes_of(spans))), f64_(is_f64(spans)) {
    for (const Block& b : blocks_of(spans)) blocks_.push_back({b});
  }

  Cut find_top(std::int64_t k) {
    if (k == 0) return cut_at(f64_ ? Keys<double>::nothing : Keys<float>::nothing, 0, f64_);
    if (const auto bound = sampled_bound(spans_, k)) {
      collect(*bound, 2 * k + (64 << 10));
      const std::int64_t reached = total().at_least;
      if (reached >= k && all_stored()) {
        const std::uint64_t key = kth_key({{values_.get(), computed(), reached}}, k);
        count(key);
        return cut_among_equals(key, k);
      }
      count(*bound);  // a bound that too many reach may be the key, with many equal to it
      if (reached >= k && total().above < k) return cut_among_equals(*bound, k);
    }
    const std::uint64_t key = kth_key(spans_, k);
    collect(key, 0);
    return cut_among_equals(key, k);
  }

  Cut find_above(double threshold) {
    const Cut cut = threshold_cut(spans_, threshold);
    collect(cut.key, elements(spans_) / 8);
    return cut;
  }

  // The cut must be the one that was found last.
  Selection write(const Cut& cut, IndexType type) {
    Selection selection{cut, std::vector<Selected>(spans_.size())};
    for (Work& w : blocks_) {
      w.kept = kept(w, cut);
      w.out = selection.spans[w.block.span].count;
      selection.spans[w.block.span].count += w.kept;
    }
    const std::size_t index_size = type == IndexType::i32 ? 4 : 8;
    for (std::size_t i = 0; i < spans_.size(); ++i) {
      Selected& s = selection.spans[i];
      s.indices = large_array<char>(static_cast<std::size_t>(s.count) * index_size);
      s.values = large_array<char>(static_cast<std::size_t>(s.count) * size_of(spans_[i].dtype));
    }
    each_block(threads_over_found(), blocks_, [&](std::size_t, const Work& w) {
      if (w.kept == 0) return;
      const Block& b = w.block;
      const Selected& s = selection.spans[b.span];
      Scratch scratch;
      const Found found = w.stored != kNotStored ? stored(w) : gather(b, cut.key, scratch);
      with_element(b.dtype, [&](auto element) {
        auto* values = reinterpret_cast<decltype(element)*>(s.values.get()) + w.out;
        if (type == IndexType::i32) {
          auto* indices = reinterpret_cast<std::int32_t*>(s.indices.get()) + w.out;
          subgrad::write(b, found, cut, w.kept, indices, values);
        } else {
          auto* indices = reinterpret_cast<std::int64_t*>(s.indices.get()) + w.out;
          subgrad::write(b, found, cut, w.kept, indices, values);
        }
      });
    });
    return selection;
  }

 private:
  static constexpr std::int64_t kNotStored = -1;
  struct Work {
    Block block;
    KeyCounts counts = {0, 0};         // at the key that was counted last
    std::int64_t found = 0;            // how many reached the key that was collected at
    std::int64_t stored = kNotStored;  // where their copies begin
    std::int64_t kept = 0, out = 0;    // how many are written, and where in the span's output
  };

  // Counts every block at a key and copies what reaches it, while there is room.
  void collect(std::uint64_t key, std::int64_t room) {
    indices_ = large_array<std::int32_t>(static_cast<std::size_t>(room));
    values_ = large_array<char>(static_cast<std::size_t>(room) * size_of(computed()));
    std::atomic<std::int64_t> used{0};
    each_block(threads_, blocks_, [&](std::size_t, Work& w) {
      w.stored = kNotStored;
      if (used.load(std::memory_order_relaxed) >= room) {
        w.counts = count_keys(w.block, 0, w.block.n, key);
        w.found = w.counts.at_least;
        return;
      }
      Scratch scratch;
      const Found found = gather(w.block, key, scratch);
      w.found = w.counts.at_least = found.count;
      if (found.count == 0) return;
      const std::int64_t at = used.fetch_add(found.count, std::memory_order_relaxed);
      if (at + found.count > room) return;
      w.stored = at;
      const auto count = static_cast<std::size_t>(found.count);
      std::memcpy(indices_.get() + at, found.indices, count * sizeof(std::int32_t));
      std::memcpy(value(at), found.values, count * size_of(computed()));
    });
  }

  DType computed() const { return f64_ ? DType::f64 : DType::f32; }
  char* value(std::int64_t i) const {
    return values_.get() + i * static_cast<std::int64_t>(size_of(computed()));
  }
  Found stored(const Work& w) const {
    return {indices_.get() + w.stored, value(w.stored), w.found};
  }
  bool all_stored() const {
    return std::all_of(blocks_.begin(), blocks_.end(),
                       [](const Work& w) { return w.stored != kNotStored || w.found == 0; });
  }

  // For work on the copies, if that is all there is to do.
  int threads_over_found() const {
    if (!all_stored()) return threads_;
    std::int64_t found = 0;
    for (const Work& w : blocks_) found += w.found;
    return threads_for(found * static_cast<std::int64_t>(size_of(computed())),
                       kInnerBytesPerThread);
  }

  // Counts again, at the same or a higher key, among the copies where there are any.
  void count(std::uint64_t key) {
    const CountKeysKernel kernel = kernels().count_keys[static_cast<int>(computed())];
    each_block(threads_over_found(), blocks_, [&](std::size_t, Work& w) {
      if (w.found == 0) return;
      w.counts = w.stored != kNotStored ? kernel(value(w.stored), w.found, key)
                                        : count_keys(w.block, 0, w.block.n, key);
    });
  }

  KeyCounts total() const {
    KeyCounts sum = {0, 0};
    for (const Work& w : blocks_) {
      sum.at_least += w.counts.at_least;
      sum.above += w.counts.above;
    }
    return sum;
  }

  // The cut at the k-th key, for which the blocks have been counted.
  Cut cut_among_equals(std::uint64_t key, std::int64_t k) const {
    std::int64_t ties = k - total().above;
    for (const Work& w : blocks_) {
      const std::int64_t equal = w.counts.at_least - w.counts.above;
      if (ties < equal) {
        return cut_at(key, w.block.position + find_equal(w.block, key, ties), f64_);
      }
      ties -= equal;
    }
    return cut_at(key, elements(spans_), f64_);
  }

  static std::int64_t kept(const Work& w, const Cut& cut) {
    const std::int64_t part = part_before(w.block, cut);
    if (part == w.block.n) return w.counts.at_least;
    if (part == 0) return w.counts.above;
    return count_keys(w.block, 0, part, cut.key).at_least +
           count_keys(w.block, part, w.block.n, cut.behind).at_least;
  }

  const std::vector<Span>& spans_;
  const int threads_;
  const bool f64_;
  std::vector<Work> blocks_;
  LargeArray<std::int32_t> indices_;  // of the copies
  LargeArray<char> values_;
};

}  // namespace

Cut cut_at(std::uint64_t key, std::int64_t boundary, bool f64) {
  const std::uint64_t behind =
      f64 ? cut_above<double>(key) : cut_above<float>(static_cast<std::uint32_t>(key));
  return {key, behind, boundary};
}

Cut kth_magnitude(const std::vector<Span>& spans, std::int64_t k) {
  return Search(spans).find_top(k);
}

Cut threshold_cut(const std::vector<Span>& spans, double threshold) {
  const bool f64 = is_f64(spans);
  const std::uint64_t key = f64 ? cut_of<double>(threshold) : cut_of<float>(threshold);
  return cut_at(key, elements(spans), f64);
}

double magnitude_of(std::uint64_t key, const std::vector<Span>& spans) {
  if (is_f64(spans)) {
    double magnitude;
    std::memcpy(&magnitude, &key, sizeof magnitude);
    return key == Keys<double>::nothing ? HUGE_VAL : magnitude;
  }
  const auto bits = static_cast<std::uint32_t>(key);
  return bits == Keys<float>::nothing ? HUGE_VAL : static_cast<double>(float_of(bits));
}

Energy energy(const std::vector<Span>& spans, const Cut& cut) {
  std::vector<Block> blocks = blocks_of(spans);
  std::vector<Energy> sums(blocks.size());
  each_block(threads_for(bytes_of(spans)), blocks, [&](std::size_t i, const Block& b) {
    const SumSquaresKernel sum = kernels().sum_squares[static_cast<int>(b.dtype)];
    const std::int64_t part = part_before(b, cut);
    const Energy before = sum(b.data, part, cut.key);
    const Energy behind = sum(b.at(part), b.n - part, cut.behind);
    sums[i] = {before.kept + behind.kept, before.rest + behind.rest};
  });
  Energy all = {0.0, 0.0};
  for (const Energy& e : sums) all = {all.kept + e.kept, all.rest + e.rest};
  return all;
}

Selection select_top(const std::vector<Span>& spans, std::int64_t k, IndexType type) {
  Search search(spans);
  const Cut cut = search.find_top(k);
  return search.write(cut, type);
}

Selection select_above(const std::vector<Span>& spans, double threshold, IndexType type) {
  Search search(spans);
  const Cut cut = search.find_above(threshold);
  return search.write(cut, type);
}

}  // namespace subgrad
