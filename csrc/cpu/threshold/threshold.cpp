#include "cpu/threshold/threshold.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <limits>
#include <memory>
#include <new>

#include "cpu/support/share.h"
#include "cpu/threshold/estimate.h"
#include "cpu/threshold/tensor.h"

namespace subgrad {
namespace {

std::int64_t chunks_of(std::int64_t n) { return (n + kThresholdChunk - 1) / kThresholdChunk; }

// The tensors that share a cut, and where each begins when their elements are counted through.
struct Scope {
  Selector selector;
  const Peers* peers = nullptr;
  std::vector<const ChunkedTensor*> members;
  std::int64_t n = 0;
  Cut cut = {};

  explicit Scope(const Selector& s) : selector(s) {}
  DType type() const { return members.empty() ? DType::f32 : members.front()->type(); }
  bool exact() const { return selector.kind == Selector::Kind::exact; }

  void choose_cut() {
    std::vector<Span> residuals;
    switch (selector.kind) {
      case Selector::Kind::absolute:
        cut = threshold_cut({{nullptr, type(), n}}, selector.threshold);
        break;
      case Selector::Kind::sampled:
        cut = estimated_cut(members, n, selector.k, selector.threshold);
        break;
      case Selector::Kind::exact:
        for (const ChunkedTensor* w : members) residuals.push_back(w->residual());
        cut = peers != nullptr ? kth_magnitude(residuals, selector.k, *peers)
                               : kth_magnitude(residuals, selector.k);
        break;
    }
  }
};

class ThresholdStep {
 public:
  ThresholdStep(const std::vector<ThresholdTensor>& tensors,
                const std::vector<ThresholdGroup>& groups, const std::vector<Selector>& selectors,
                const ThresholdOptions& options, const Stages& stages,
                const std::vector<const Peers*>& peers)
      : options_(options), scopes_(selectors.begin(), selectors.end()) {
    for (std::size_t i = 0; i < peers.size(); ++i) scopes_[i].peers = peers[i];
    work_.reserve(tensors.size());  // scopes keep addresses
    for (std::size_t i = 0; i < tensors.size(); ++i) {
      const ThresholdTensor& s = tensors[i];
      Scope& scope = scopes_[static_cast<std::size_t>(s.scope)];
      work_.emplace_back(s, groups[static_cast<std::size_t>(s.group)],
                         stages.empty() ? GradientStage() : stages[i]);
      if (scope.exact()) work_.back().reserve_residual();
      scope.members.push_back(&work_.back());
      offsets_.push_back(scope.n);
      scope.n += s.n;
      first_chunks_.push_back(first_chunks_.back() + chunks_of(s.n));
    }
    const auto chunks = static_cast<std::size_t>(first_chunks_.back());
    kept_.resize(chunks);
    if (options_.index_bytes != 0) runs_.resize(chunks);
    if (options_.measure) energies_.resize(chunks);
  }

  ThresholdResult run() {
    const bool exact =
        std::any_of(scopes_.begin(), scopes_.end(), [](const Scope& s) { return s.exact(); });
    if (exact) share(&ThresholdStep::accumulate);
    for (Scope& scope : scopes_) scope.choose_cut();
    share(&ThresholdStep::release);
    if (no_memory_.load()) throw std::bad_alloc();
    return report();
  }

 private:
  // Whole chunks of a tensor, [begin, end), for each tensor.
  void share(void (ThresholdStep::*pass)(std::size_t tensor, std::int64_t begin,
                                         std::int64_t end)) {
    share_work(
        work_.size(),
        [this](std::size_t i) {
          return Load{work_[i].tensor().n, work_[i].element_bytes(), kThresholdChunk};
        },
        [this, pass](std::size_t i, std::int64_t begin, std::int64_t end) {
          (this->*pass)(i, begin, end);
        });
  }

  // An exact cut needs all residuals before anything moves: the first of two passes.
  void accumulate(std::size_t tensor, std::int64_t begin, std::int64_t end) {
    const ChunkedTensor& w = work_[tensor];
    if (!scope_of(w).exact()) return;
    ThresholdBuffers buffers;
    for (std::int64_t i = begin; i < end; i += kThresholdChunk) {
      w.accumulate(i, std::min(kThresholdChunk, end - i), buffers);
    }
  }

  void release(std::size_t tensor, std::int64_t begin, std::int64_t end) {
    const ChunkedTensor& w = work_[tensor];
    const Scope& scope = scope_of(w);
    ThresholdBuffers buffers;
    KeptRun* const run = begin < end ? new_run(tensor, begin) : nullptr;
    for (std::int64_t i = begin; i < end; i += kThresholdChunk) {
      const std::int64_t n = std::min(kThresholdChunk, end - i);
      char* const v = scope.exact() ? w.held(i) : w.accumulate(i, n, buffers);
      // Of elements that tie at the cut, only those before its boundary are kept.
      const std::int64_t boundary = scope.cut.boundary - offsets_[tensor] - i;
      const std::int64_t before = std::clamp<std::int64_t>(boundary, 0, n);
      std::int64_t kept = 0;
      if (before > 0) kept += release(tensor, i, before, scope.cut.key, v, buffers, run);
      if (before < n) {
        char* const behind = v + before * static_cast<std::int64_t>(size_of(w.type()));
        kept += release(tensor, i + before, n - before, scope.cut.behind, behind, buffers, run);
      }
      kept_[chunk(tensor, i)] = kept;
    }
  }

  // A chunk or a part of one: measured and reported while the residual still has what is kept.
  std::int64_t release(std::size_t tensor, std::int64_t begin, std::int64_t n, std::uint64_t cut,
                       char* v, ThresholdBuffers& buffers, KeptRun* run) {
    const ChunkedTensor& w = work_[tensor];
    const auto type = static_cast<std::size_t>(w.type());
    if (options_.measure) {
      add(energies_[chunk(tensor, begin)], table_.sum_squares[type](v, n, cut));
    }
    KeptLanes to = {};
    const auto index_bytes = static_cast<std::size_t>(options_.index_bytes);
    if (run != nullptr) {  // written where it stays: reading it back would wait for the parameters
      constexpr std::size_t room = kThresholdChunk + kKeptSlack;
      to = {run->indices.room(room * index_bytes), run->values.room(room * size_of(w.type())),
            begin, options_.index_bytes};
      if (to.indices == nullptr || to.values == nullptr) {
        no_memory_.store(true, std::memory_order_relaxed);
        to = {};
      }
    }
    const std::int64_t kept = w.release(begin, n, cut, v, buffers, to);
    if (to.indices != nullptr) {
      run->indices.add(static_cast<std::size_t>(kept) * index_bytes);
      run->values.add(static_cast<std::size_t>(kept) * size_of(w.type()));
      run->count += kept;
    }
    return kept;
  }

  // Where to report what is kept from `begin` on: at its chunk, so that runs come in order.
  KeptRun* new_run(std::size_t tensor, std::int64_t begin) {
    if (runs_.empty()) return nullptr;
    auto& run = runs_[chunk(tensor, begin)];
    run.reset(new (std::nothrow) KeptRun);
    if (run != nullptr) {
      run->tensor = tensor;
    } else {
      no_memory_.store(true, std::memory_order_relaxed);
    }
    return run.get();
  }

  const Scope& scope_of(const ChunkedTensor& w) const {
    return scopes_[static_cast<std::size_t>(w.tensor().scope)];
  }

  std::size_t chunk(std::size_t tensor, std::int64_t element) const {
    return static_cast<std::size_t>(first_chunks_[tensor] + element / kThresholdChunk);
  }

  static void add(Energy& sum, const Energy& e) { sum = {sum.kept + e.kept, sum.rest + e.rest}; }

  // Sums in the order of the elements.
  ThresholdResult report() {
    ThresholdResult result;
    for (const Scope& scope : scopes_) {
      result.thresholds.push_back(magnitude_of(scope.cut.key, {{nullptr, scope.type(), 0}}));
    }
    for (std::size_t s = 0; s < work_.size(); ++s) {
      std::int64_t kept = 0;
      Energy energy = {0.0, 0.0};
      const auto end = static_cast<std::size_t>(first_chunks_[s + 1]);
      for (auto c = static_cast<std::size_t>(first_chunks_[s]); c < end; ++c) {
        kept += kept_[c];
        if (options_.measure) add(energy, energies_[c]);
      }
      result.kept.push_back(kept);
      if (options_.measure) result.energies.push_back(energy);
    }
    for (auto& run : runs_) {
      if (run != nullptr) result.runs.push_back(std::move(*run));
    }
    return result;
  }

  const KernelTable& table_ = kernels();
  const ThresholdOptions options_;
  std::vector<ChunkedTensor> work_;
  std::vector<Scope> scopes_;
  std::vector<std::int64_t> offsets_;             // by tensor: its first element in its scope
  std::vector<std::int64_t> first_chunks_ = {0};  // by tensor: its first chunk of all
  // By chunk: how many were kept, a report that begins there, sums of squares.
  std::vector<std::int64_t> kept_;
  std::vector<std::unique_ptr<KeptRun>> runs_;
  std::vector<Energy> energies_;
  std::atomic<bool> no_memory_{false};
};

}  // namespace

ThresholdResult run_threshold(const std::vector<ThresholdTensor>& tensors,
                              const std::vector<ThresholdGroup>& groups,
                              const std::vector<Selector>& selectors,
                              const ThresholdOptions& options, const Stages& stages,
                              const std::vector<const Peers*>& peers) {
  return ThresholdStep(tensors, groups, selectors, options, stages, peers).run();
}

double next_threshold(double threshold, std::int64_t kept, std::int64_t target) {
  const double ratio = static_cast<double>(kept) / static_cast<double>(target);
  if (!(ratio > 0.5 && ratio < 2.0)) return std::numeric_limits<double>::quiet_NaN();
  return threshold * std::sqrt(std::sqrt(std::sqrt(ratio)));
}

}  // namespace subgrad
