#include "cpu/select.h"

#include <atomic>
#include <cmath>
#include <cstring>
#include <limits>

#include "core/convert.h"
#include "cpu/kth_key.h"
#include "rules/threshold.h"

namespace subgrad {
namespace {

KeyCounts count_keys(const Block& b, std::int64_t begin, std::int64_t end, std::uint64_t key) {
  return kernels().count_keys[static_cast<int>(b.dtype)](b.at(begin), end - begin, key);
}

Cut cut_at(std::uint64_t key, std::int64_t boundary, bool f64) {
  const std::uint64_t behind =
      f64 ? cut_above<double>(key) : cut_above<float>(static_cast<std::uint32_t>(key));
  return {key, behind, boundary};
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
    const T* x = static_cast<const T*>(b.data);
    for (;; ++i) {
      if (magnitude_key(widen<compute_t<T>>(x[i])) == key && skipped-- == 0) return;
    }
  });
  return i;
}

// Finds a cut and writes what it keeps. The pass that counts what reaches a key, which may be lower
// than the one that is looked for, also stores copies of that, so that the rest of the work is
// about those and the arrays are read once. What there is no room for is read again.
class Selector {
 public:
  explicit Selector(const std::vector<Span>& spans)
      : spans_(spans), threads_(threads_for(spans)), f64_(is_f64(spans)) {
    for (const Block& b : blocks_of(spans)) blocks_.push_back({b, {0, 0}, kNotStored, 0, 0, 0});
  }

  Cut find_top(std::int64_t k) {
    if (k == 0) return cut_at(f64_ ? Keys<double>::nothing : Keys<float>::nothing, 0, f64_);
    if (const auto bound = sampled_bound(spans_, k)) {
      collect(*bound, 2 * k + (64 << 10));
      const KeyCounts reached = total();
      if (reached.at_least >= k && reached.above < k) return cut_among_equals(*bound, k);
      if (reached.at_least >= k && all_stored()) {
        const DType computed = f64_ ? DType::f64 : DType::f32;
        const std::uint64_t key = kth_key({{values_.get(), computed, reached.at_least}}, k);
        count_stored(key);
        return cut_among_equals(key, k);
      }
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
    each_block(threads_, blocks_, [&](std::size_t, Work& w) { count_kept(w, cut); });
    for (Work& w : blocks_) {
      std::int64_t& count = selection.spans[w.block.span].count;
      w.out = count;
      count += w.kept_before + w.kept_behind;
    }
    const std::size_t index_size = type == IndexType::i32 ? 4 : 8;
    for (std::size_t i = 0; i < spans_.size(); ++i) {
      Selected& s = selection.spans[i];
      s.indices = large_array<char>(static_cast<std::size_t>(s.count) * index_size);
      s.values = large_array<char>(static_cast<std::size_t>(s.count) * size_of(spans_[i].dtype));
    }
    each_block(threads_, blocks_, [&](std::size_t, const Work& w) {
      if (w.kept_before + w.kept_behind == 0) return;
      Selected& s = selection.spans[w.block.span];
      with_element(w.block.dtype, [&](auto element) {
        auto* values = reinterpret_cast<decltype(element)*>(s.values.get()) + w.out;
        if (type == IndexType::i32) {
          write(w, cut, Emit::i32, reinterpret_cast<std::int32_t*>(s.indices.get()) + w.out,
                values);
        } else {
          write(w, cut, Emit::i64, reinterpret_cast<std::int64_t*>(s.indices.get()) + w.out,
                values);
        }
      });
    });
    return selection;
  }

 private:
  static constexpr std::int64_t kNotStored = -1;
  struct Work {
    Block block;
    KeyCounts counts;     // at the key that was counted last
    std::int64_t stored;  // where the block's copies begin, or kNotStored
    std::int64_t candidates;
    std::int64_t kept_before, kept_behind;  // on either side of the boundary
    std::int64_t out = 0;                   // where in the span's output
  };

  void collect(std::uint64_t key, std::int64_t room) {
    const auto size = static_cast<std::size_t>(room);
    indices_ = large_array<std::int32_t>(size);
    values_ = large_array<char>(size * (f64_ ? 8 : 4));
    std::atomic<std::int64_t> used{0};
    each_block(threads_, blocks_, [&](std::size_t, Work& w) {
      const Block& b = w.block;
      w.counts = count_keys(b, 0, b.n, key);
      w.candidates = w.counts.at_least;
      if (w.candidates == 0 || used.load(std::memory_order_relaxed) + w.candidates > room) return;
      const std::int64_t at = used.fetch_add(w.candidates, std::memory_order_relaxed);
      if (at + w.candidates > room) return;
      w.stored = at;
      emit(Emit::i32_computed, b, 0, b.n, key, 0, w.candidates, indices_.get() + at, value(at));
    });
  }

  static void emit(Emit kind, const Block& b, std::int64_t begin, std::int64_t end,
                   std::uint64_t key, std::int64_t first, std::int64_t count, void* indices,
                   void* values) {
    kernels().emit_keys[static_cast<int>(b.dtype)][static_cast<int>(kind)](
        b.at(begin), end - begin, key, first, count, indices, values);
  }

  void* value(std::int64_t i) const { return values_.get() + i * (f64_ ? 8 : 4); }

  bool all_stored() const {
    return std::all_of(blocks_.begin(), blocks_.end(),
                       [](const Work& w) { return w.stored != kNotStored || w.candidates == 0; });
  }

  // Counts again, at a higher key, among the copies.
  void count_stored(std::uint64_t key) {
    const CountKeysKernel count =
        kernels().count_keys[static_cast<int>(f64_ ? DType::f64 : DType::f32)];
    each_block(threads_, blocks_, [&](std::size_t, Work& w) {
      if (w.candidates > 0) w.counts = count(value(w.stored), w.candidates, key);
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

  static void count_kept(Work& w, const Cut& cut) {
    const Block& b = w.block;
    const std::int64_t part = part_before(b, cut);
    w.kept_before = part == b.n ? w.counts.at_least
                    : part == 0 ? 0
                                : count_keys(b, 0, part, cut.key).at_least;
    w.kept_behind = part == b.n ? 0
                    : part == 0 ? w.counts.above
                                : count_keys(b, part, b.n, cut.behind).at_least;
  }

  template <class I, class T>
  void write(const Work& w, const Cut& cut, Emit kind, I* indices, T* values) const {
    const Block& b = w.block;
    const std::int64_t part = part_before(b, cut);
    if (w.stored == kNotStored) {
      emit(kind, b, 0, part, cut.key, b.begin, w.kept_before, indices, values);
      emit(kind, b, part, b.n, cut.behind, b.begin + part, w.kept_behind, indices + w.kept_before,
           values + w.kept_before);
      return;
    }
    using C = compute_t<T>;
    const std::int32_t* candidate = indices_.get() + w.stored;
    const C* x = static_cast<const C*>(value(w.stored));
    for (std::int64_t i = 0; i < w.candidates; ++i) {
      const std::uint64_t key = candidate[i] < part ? cut.key : cut.behind;
      if (!at_least(x[i], static_cast<key_t<C>>(key))) continue;
      *indices++ = static_cast<I>(b.begin + candidate[i]);
      *values++ = Narrow<T>::of(x[i]);
    }
  }

  const std::vector<Span>& spans_;
  const int threads_;
  const bool f64_;
  std::vector<Work> blocks_;
  LargeArray<std::int32_t> indices_;  // of the copies, counted within their block
  LargeArray<char> values_;           // in the type that is computed in
};

}  // namespace

Cut kth_magnitude(const std::vector<Span>& spans, std::int64_t k) {
  return Selector(spans).find_top(k);
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
  each_block(threads_for(spans), blocks, [&](std::size_t i, const Block& b) {
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
  Selector selector(spans);
  const Cut cut = selector.find_top(k);
  return selector.write(cut, type);
}

Selection select_above(const std::vector<Span>& spans, double threshold, IndexType type) {
  Selector selector(spans);
  const Cut cut = selector.find_above(threshold);
  return selector.write(cut, type);
}

}  // namespace subgrad
