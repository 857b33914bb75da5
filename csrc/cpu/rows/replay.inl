// Steps with a gradient of zero, many of them at once on rows that stay in registers meanwhile:
// what a row has missed while no gradient named it. Written once and compiled per instruction set.
#include "core/types.h"
#include "cpu/kernel_table.h"
#include "rules/table.h"

namespace subgrad {
inline namespace SGF_ISA {

// A few registers of an f32 parameter and its momentum.
template <class Rule, int kRegisters>
struct ReplayedBlock {
  using V = Vec<float>;
  V w[kRegisters], m[kRegisters];

  SGF_INLINE void step(const Rule& rule) {
    for (int u = 0; u < kRegisters; ++u) rule(w[u], m[u], splat<V>(0.0f));
  }

  // Whether a step changes no bit, and so no later one like it.
  SGF_INLINE bool rests(const Rule& rule) const {
    constexpr int width = Memory<V>::width, size = kRegisters * width;
    ReplayedBlock after = *this;
    after.step(rule);
    float before_lanes[2 * size], after_lanes[2 * size];
    spread(before_lanes, before_lanes + size);
    after.spread(after_lanes, after_lanes + size);
    return __builtin_memcmp(before_lanes, after_lanes, sizeof before_lanes) == 0;
  }

 private:
  SGF_INLINE void spread(float* weights, float* momentum) const {
    constexpr int width = Memory<V>::width;
    for (int u = 0; u < kRegisters; ++u) {
      Memory<V>::store(weights + u * width, w[u]);
      Memory<V>::store(momentum + u * width, m[u]);
    }
  }
};

// How many steps are taken between two questions whether they still change anything.
inline constexpr std::int64_t kStepsUnasked = 16;

// The elements at w and m: `rest...` is nothing for full registers or the number in a partial one.
template <class Rule, int kRegisters, class... Rest>
SGF_INLINE void replay_block(float* w, float* m, const ReplayRun* runs, std::int64_t count,
                             std::int64_t skipped, Rest... rest) {
  using V = Vec<float>;
  constexpr int width = Memory<V>::width;
  ReplayedBlock<Rule, kRegisters> block;
  for (int u = 0; u < kRegisters; ++u) {
    block.w[u] = Memory<V>::load(w + u * width, rest...);
    block.m[u] = splat<V>(0.0f);
    if constexpr (Rule::reads_momentum) block.m[u] = Memory<V>::load(m + u * width, rest...);
  }
  for (std::int64_t r = 0; r < count; ++r) {
    SgdCoefficients<float> coefficients;
    static_assert(sizeof coefficients <= sizeof runs->coefficients);
    __builtin_memcpy(&coefficients, runs[r].coefficients, sizeof coefficients);
    const Rule rule(coefficients);
    for (std::int64_t left = runs[r].times - (r == 0 ? skipped : 0); left > 0; --left) {
      if (left % kStepsUnasked == 0 && block.rests(rule)) break;
      block.step(rule);
    }
  }
  for (int u = 0; u < kRegisters; ++u) {
    if constexpr (Rule::writes_momentum) Memory<V>::store(m + u * width, block.m[u], rest...);
    Memory<V>::store(w + u * width, block.w[u], rest...);
  }
}

// A step waits for the one before it, so several registers go along together.
template <class Rule>
void replay(void* param, void* momentum, std::int64_t n, const ReplayRun* runs, std::int64_t count,
            std::int64_t skipped) {
  constexpr int width = Memory<Vec<float>>::width, together = 4;
  float* w = static_cast<float*>(param);
  float* m = static_cast<float*>(momentum);
  const auto at = [&](std::int64_t i) { return Rule::writes_momentum ? m + i : nullptr; };
  std::int64_t i = 0;
  for (; i + together * width <= n; i += together * width) {
    replay_block<Rule, together>(w + i, at(i), runs, count, skipped);
  }
  for (; i + width <= n; i += width) {
    replay_block<Rule, 1>(w + i, at(i), runs, count, skipped);
  }
  if constexpr (width > 1) {
    if (i < n) replay_block<Rule, 1>(w + i, at(i), runs, count, skipped, static_cast<int>(n - i));
  }
}

// A first step is taken once, so nothing is gained by keeping a row in registers for it.
template <int row>
constexpr void fill_replay(KernelTable& table) {
  if constexpr (kSgdRows[row].buffer != Buffer::set) {
    table.replay[row] = &replay<SgdRule<float, row>>;
  }
  if constexpr (row + 1 < kSgdRules) fill_replay<row + 1>(table);
}

}  // namespace SGF_ISA
}  // namespace subgrad
