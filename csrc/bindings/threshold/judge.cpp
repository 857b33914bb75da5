// What the gradients of a thresholded step ask for before it: a bound, or that nothing be written.
#include <limits>

#include "bindings/border/gil.h"
#include "bindings/threshold/part.h"

namespace subgrad {
namespace {

// The argument by which a step asks for its gradients to be looked at or changed.
const char* asked_for(const std::vector<DenseGroup>& groups, const ClipOptions& options) {
  for (const SgdField& field : kSgdFields) {
    for (const DenseGroup& group : groups) {
      if (field.optional && group.params.*field.number != kAbsent) return field.name;
    }
  }
  return options.skip_nonfinite      ? "skip_nonfinite"
         : options.grad_scale != 1.0 ? "grad_scale"
                                     : "measure_norm";
}

}  // namespace

// Stages are by tensor of the call. Nothing is written.
Clipping ThresholdCall::judge(const std::vector<Part>& parts) const {
  std::vector<DenseGroup> groups;
  for (const Group& group : groups_) groups.push_back({group.hyper});
  if (!clips(groups, clip_)) return {};

  std::vector<Gradient> gradients(tensors_.size());
  std::vector<int> group_of(tensors_.size());
  for (const Part& part : parts) {
    if (!part.place.on_host()) {
      throw py::value_error(
          std::string(asked_for(groups, clip_)) +
          ": gradients of a thresholded step are looked at on the CPU only, and " +
          plan_.where(part.members.front()).text() + " is on " + device_text(part.place.device));
    }
    for (std::size_t i = 0; i < part.members.size(); ++i) {
      const ThresholdTensor& t = part.tensors[i];
      const std::size_t tensor = part.members[i];
      gradients[tensor] = {t.grad.data, kDenseTypes[t.types].grad, t.n, t.grad.layout};
      group_of[tensor] = static_cast<int>(tensors_[tensor].group);
    }
  }
  const WithoutGil released;
  return clipping_of(gradients, group_of, groups, clip_);
}

// The result of a step that has written nothing. What residuals hold has not been looked at.
void ThresholdCall::keep_nothing(Part& part) const {
  constexpr double nan = std::numeric_limits<double>::quiet_NaN();
  ThresholdResult& result = part.result;
  result.thresholds.assign(part.scopes.size(), std::numeric_limits<double>::infinity());
  result.kept.assign(part.members.size(), 0);
  if (options_.measure) result.energies.assign(part.members.size(), {nan, nan});
}

}  // namespace subgrad
