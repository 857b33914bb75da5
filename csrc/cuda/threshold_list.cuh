// The tensors of a thresholded step as its kernels take them, and how a call cuts them into lists.
#pragma once

#include <memory>

#include "cuda/select.cuh"
#include "rules/table.h"
#include "rules/threshold.h"

namespace subgrad {

// The rules by which what is kept moves a parameter. Without momentum it is released as it is, and
// decoupled decay shrinks the parameter; with momentum it is the gradient of a step.
inline constexpr int kPlain = row_of(Decay::none, Buffer::none, false, Prox::none);
inline constexpr int kDecaying = row_of(Decay::decoupled, Buffer::none, false, Prox::none);
constexpr bool applies_momentum(const SgdRow& row) {
  return is_application(row) && row.buffer != Buffer::none;
}

struct ThresholdTerms {
  SgdParams direction, application;
  const float* lr;
};

struct ThresholdItem {
  void* param;
  const void* grad;
  void* momentum;
  void* residual;  // null: nothing is held from step to step
  std::int64_t n;
  KeptRoom kept;
  int first_tile, scope;
  int number;                          // of the tensor in the call
  std::int16_t group;                  // of the list's
  std::int8_t direction, application;  // rules: rows of kSgdRows
  bool fused;                          // the cut is known: one kernel does it all
  bool counts;                         // the first of two also counts what will be kept
  bool fresh, reads_param, reads_momentum, writes_momentum, masks_momentum;
  bool packed;  // every operand is aligned to its packs
};

struct ThresholdList {
  static constexpr int kGroups = 6, kSegments = 28;

  SelectScratch scratch;
  std::int64_t* kept;
  double2* energies;  // by tile: sums of squares of what is kept and of the rest; or null
  std::int32_t count, group_count, index_bytes;
  ThresholdTerms groups[kGroups];
  ThresholdItem segments[kSegments];
  std::int32_t first_block[kSegments];
};
static_assert(sizeof(ThresholdList) <= 4096, "the limit of parameters");

inline bool is_packed(const ThresholdTensor& t, const void* residual, DenseTypes types) {
  const std::size_t lanes = 16 / size_of(types.momentum);
  return aligned_to(t.param.data, lanes * size_of(types.param)) &&
         aligned_to(t.grad.data, lanes * size_of(types.grad)) && aligned_to(t.momentum.data, 16) &&
         aligned_to(residual, 16);
}

// A call's tensors and its scratch memory. Both of its launchers make the same one from the same
// arguments, so that the second finds in the scratch memory what the first has put there.
class ThresholdCall {
 public:
  ThresholdCall(const ThresholdTensor* tensors, std::size_t count, const Selector* scopes,
                std::size_t scope_count, const ThresholdOptions& options, void* scratch)
      : tensors_(tensors),
        count_(count),
        options_(options),
        two_passes_(new bool[scope_count]),
        selecting_(scopes, scope_count, two_passes_.get()) {
    for (std::size_t i = 0; i < scope_count; ++i) {
      two_passes_[i] = scopes[i].counts() || options.index_bytes != 0;
    }
    Carver carver(scratch);
    for (std::size_t i = 0; i < count; ++i) {
      const ThresholdTensor& t = tensors[i];
      const DType type = types_of(t).momentum;
      void* v = t.residual.data;
      if (v == nullptr && two_passes_[t.scope]) {
        v = carver.take<char>(t.n * static_cast<std::int64_t>(size_of(type)));
      }
      KeptRoom kept = t.kept;
      if (options.index_bytes == 0) kept.capacity = KeptRoom::kUnlimited;
      selecting_.add({v, t.n, kept, 0, t.scope, static_cast<int>(i), type});
    }
    selecting_.carve(carver);
    if (options.measure) energies_ = carver.take<double2>(selecting_.tiles());
    bytes_ = carver.bytes();
  }

  std::size_t bytes() const { return bytes_; }
  const Selecting& selecting() const { return selecting_; }
  static DenseTypes types_of(const ThresholdTensor& t) { return kDenseTypes[t.types]; }
  bool two_passes(const ThresholdTensor& t) const { return two_passes_[t.scope]; }

  // Calls run(list, blocks) for the tensors that are wanted, in lists as long as a launch takes.
  template <class Wanted, class Run>
  cudaError_t each_list(const ThresholdGroup* groups, std::int64_t* kept, bool second,
                        const Wanted& wanted, const Run& run) const {
    ThresholdList list;
    list.scratch = selecting_.scratch();
    list.kept = kept;
    list.energies = energies_;
    list.index_bytes = options_.index_bytes;
    list.count = list.group_count = 0;
    int blocks = 0, last_group = -1;
    for (std::size_t i = 0; i < count_; ++i) {
      const ThresholdTensor& t = tensors_[i];
      if (t.n == 0 || !wanted(t)) continue;
      if (list.count == ThresholdList::kSegments ||
          (t.group != last_group && list.group_count == ThresholdList::kGroups)) {
        SGF_CUDA_TRY(run(list, blocks));
        list.count = list.group_count = blocks = 0;
        last_group = -1;
      }
      const ThresholdGroup& group = groups[t.group];
      if (t.group != last_group) {
        const ThresholdParts parts =
            threshold_parts(group.params, group.momentum_correction, group.momentum_masking);
        list.groups[list.group_count++] = {parts.direction, parts.application, group.lr};
        last_group = t.group;
      }
      ThresholdItem& s = list.segments[list.count];
      s = segment(i, group, second);
      s.group = static_cast<std::int16_t>(list.group_count - 1);
      list.first_block[list.count++] = blocks;
      blocks += static_cast<int>(tiles_of(t.n));
    }
    return list.count > 0 ? run(list, blocks) : cudaSuccess;
  }

 private:
  // The entry of tensor number i in the list of the first or of the second kernel.
  ThresholdItem segment(std::size_t i, const ThresholdGroup& group, bool second) const {
    const ThresholdTensor& t = tensors_[i];
    const SpanItem& span = selecting_.spans()[i];
    const bool exact = selecting_.exact(t.scope), two = two_passes_[t.scope];
    ThresholdParts parts =
        threshold_parts(group.params, group.momentum_correction, group.momentum_masking);
    const bool momentum = group.params.momentum != 0.0;
    ThresholdItem s = {};
    s.param = t.param.data;
    s.grad = t.grad.data;
    s.momentum = t.momentum.data;
    s.residual = const_cast<void*>(span.data);
    s.n = t.n;
    s.kept = span.kept;
    s.first_tile = span.first_tile;
    s.scope = t.scope;
    s.number = static_cast<int>(i);
    s.direction = static_cast<std::int8_t>(sgd_rule(parts.direction, t.first));
    if (parts.releases) parts.application.momentum = 0.0;
    s.application = static_cast<std::int8_t>(sgd_rule(parts.application, t.first));
    s.fused = !two;
    s.counts = two && !exact;
    s.reads_param = kSgdRows[s.direction].decay == Decay::coupled;
    s.fresh = t.fresh || t.residual.data == nullptr;
    // The momentum is read by the kernel that has its equation, unless it holds nothing yet. The
    // kernel that masks it reads it too, if the other has written it.
    const bool has_equation = momentum && (s.fused || second != parts.releases);
    const bool masks = parts.masks_momentum && (s.fused || second);
    s.reads_momentum = (has_equation && !t.first) || (masks && second);
    s.writes_momentum = has_equation || masks;
    s.masks_momentum = masks;
    s.packed = is_packed(t, span.data, types_of(t));
    return s;
  }

  const ThresholdTensor* tensors_;
  std::size_t count_;
  const ThresholdOptions options_;
  std::unique_ptr<bool[]> two_passes_;  // by scope
  Selecting selecting_;
  double2* energies_ = nullptr;
  std::size_t bytes_ = 0;
};

}  // namespace subgrad
