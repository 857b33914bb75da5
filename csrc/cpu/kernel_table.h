// What each instruction set offers, as one table of function pointers, and how one of them is
// chosen. Plain declarations only: this header is included by files compiled with different flags.
#pragma once

#include <cstdint>

#include "core/types.h"
#include "core/work.h"
#include "rules/table.h"
#include "samplers/permute.h"

namespace subgrad {

// One contiguous run of `n` elements: param and momentum are updated in place. `momentum` may be
// null where the rule has none. `scale`: what the gradient is multiplied by.
using DenseKernel = void (*)(void* param, const void* grad, void* momentum, std::int64_t n,
                             const SgdParams& params, double scale);

// Steps alike with gradients of zero, and what they multiply by: SgdCoefficients<float>.
struct ReplayRun {
  float coefficients[8];
  std::int64_t times;
};

// Takes the steps of the runs, but for the first `skipped` of them all, which the first run has, on
// n elements of an f32 parameter and f32 momentum.
using ReplayKernel = void (*)(void* param, void* momentum, std::int64_t n, const ReplayRun* runs,
                              std::int64_t count, std::int64_t skipped);

// Where to report what was kept of a run: indices, of 4 or 8 bytes, counted from `first`, and
// values; nowhere if null. Whole registers are written, so there must be room for kKeptSlack more
// than the run has elements.
inline constexpr std::int64_t kKeptSlack = 16;
struct KeptLanes {
  void* indices;
  void* values;
  std::int64_t first;
  int index_bytes;
};

// The parts of the thresholded step on a contiguous run (threshold.inl): the residual takes up the
// direction; kept elements move the parameter; or kept elements are taken out. The last two return
// how many were kept: those whose magnitude key is at least `cut` (rules/select.h).
using AccumulateKernel = void (*)(const void* param, const void* grad, void* momentum,
                                  void* residual, std::int64_t n, const SgdParams& params);
using ReleaseKernel = std::int64_t (*)(void* param, void* momentum, void* residual, std::int64_t n,
                                       const SgdParams& params, std::uint64_t cut,
                                       const KeptLanes& to);
using TakeKernel = std::int64_t (*)(void* residual, void* taken, std::int64_t n, std::uint64_t cut,
                                    const KeptLanes& to);
struct ReleaseKernels {
  ReleaseKernel plain;
  ReleaseKernel decaying;  // with decoupled weight decay
};

// Philox blocks `low`, `low` + 1, ... of the counters whose upper half is `high`: two words each.
using PhiloxKernel = void (*)(std::uint64_t key, std::uint64_t low, std::uint64_t high,
                              std::int64_t blocks, std::uint64_t* words);

// Positions become indices, or indices positions, in place. All must be below the permutation's n.
using PermuteKernel = void (*)(const Permutation& permutation, std::uint64_t* values,
                               std::int64_t count);

// Selection by magnitude; cuts and keys as in rules/select.h, by the element type that is
// computed in: 32 bits, or 64 for f64.

// Of n elements, how many have a key of at least `cut`, and of more than that.
struct KeyCounts {
  std::int64_t at_least, above;
};
using CountKeysKernel = KeyCounts (*)(const void* x, std::int64_t n, std::uint64_t cut);

// Writes index and value, in the type that is computed in, of every element whose key is at least
// `cut`, in order, and returns their number. Both outputs have room for kGatherSlack more: whole
// registers are stored.
inline constexpr int kGatherSlack = 16;
using GatherKeysKernel = std::int64_t (*)(const void* x, std::int64_t n, std::uint64_t cut,
                                          std::int32_t* indices, void* values);

// Adds to the bins of the digits at `shift` those keys that lie in [first, end), of which both are
// cuts.
inline constexpr int kDigitBits = 11, kDigitBins = 1 << kDigitBits, kDigitTables = 4;
using CountDigitsKernel = void (*)(const void* x, std::int64_t n, std::uint64_t first,
                                   std::uint64_t end, int shift, std::uint32_t (*bins)[kDigitBins]);

// Sums of squares of what is kept and of the rest.
struct Energy {
  double kept, rest;
};
using SumSquaresKernel = Energy (*)(const void* x, std::int64_t n, std::uint64_t cut);

// Gradients measured: the sum of squares, in kSquareSums sums that are folded in one order; the
// largest of the magnitudes' bits.
using SquaresKernel = double (*)(const void* x, std::int64_t n);
using LargestBitsKernel = std::uint64_t (*)(const void* x, std::int64_t n);

// Elements taken through a gradient's stage, from one place to another or to the same.
using ClipKernel = void (*)(const void* from, void* to, std::int64_t n, const GradientStage& stage);

// 16-bit elements to f32, or back.
using ConvertKernel = void (*)(const void* from, void* to, std::int64_t n);

// The average moves towards the weights; both have the type that is computed in.
using AverageKernel = void (*)(void* average, const void* weights, std::int64_t n, double decay);

// Weights made sparse in place, by element type. What does not stay becomes +0.

// w becomes sign(w) * max(|w| - threshold, 0) * scale.
using ShrinkKernel = void (*)(void* x, std::int64_t n, double threshold, double scale);

// What has a zero in the mask does not stay.
using MaskKernel = void (*)(void* x, const std::uint8_t* mask, std::int64_t n);

// What stays: magnitudes whose key (rules/select.h) is at least `cut`.
using KeepAtLeastKernel = void (*)(void* x, std::int64_t n, std::uint64_t cut);

// What stays: the `keep` largest of each group of m <= kMaxPattern neighbours.
using KeepPatternKernel = void (*)(void* x, std::int64_t groups, int keep, int m);
inline constexpr int kMaxPattern = 32;

struct KernelTable {
  const char* isa;
  DenseKernel dense[kSgdRules][kDenseTypeRows];
  ReplayKernel replay[kSgdRules];                          // null for first steps
  AccumulateKernel accumulate[kSgdRules][kDenseTypeRows];  // null where there is no such step
  ReleaseKernels release[kDTypes];                         // by the parameter's type
  TakeKernel take[kDTypes];                                // by the arithmetic's
  PhiloxKernel philox;
  PermuteKernel permute;
  PermuteKernel unpermute;
  CountKeysKernel count_keys[kDTypes];
  GatherKeysKernel gather_keys[kDTypes];
  CountDigitsKernel count_digits[kDTypes];
  SumSquaresKernel sum_squares[kDTypes];
  ShrinkKernel shrink[kDTypes];
  MaskKernel apply_mask[kDTypes];
  KeepAtLeastKernel keep_at_least[kDTypes];
  KeepPatternKernel keep_pattern[kDTypes];
  SquaresKernel squares[kDTypes];
  LargestBitsKernel largest_bits[kDTypes];
  ClipKernel clip_in_place[kDTypes];
  ClipKernel clip_to_f32[kDTypes], clip_to_f64[kDTypes];  // by the gradient's type
  ConvertKernel widen[kDTypes], narrow[kDTypes];          // by the 16-bit type
  AverageKernel average[kDTypes];
};

// Defined in isa_*.cpp, one each; which of them are built is CMake's decision (SGF_HAVE_*).
extern const KernelTable kPortableKernels;
extern const KernelTable kAvx2Kernels;
extern const KernelTable kAvx512Kernels;
extern const KernelTable kNeonKernels;

// The table in use: chosen at the first call and kept. SUBGRAD_FAST_ISA names one; without it the
// best that the processor has is taken. Throws std::invalid_argument for a name that is unknown,
// not built or not supported by this processor.
const KernelTable& kernels();

// Changes the table in use (tests and benchmarks); null goes back to the environment's or the best.
// Throws like kernels().
void select_isa(const char* name);

// Calls visit(name) for every instruction set that is built and that this processor has, best
// first.
void each_available_isa(void (*visit)(const char* name, void* context), void* context);

}  // namespace subgrad
