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

std::vector<DenseGroup> ThresholdCall::dense_groups() const {
  std::vector<DenseGroup> groups;
  for (const Group& group : groups_) groups.push_back({group.hyper});
  return groups;
}

// By tensor of the call. Throws ValueError for one on a device.
std::vector<Gradient> ThresholdCall::gradients_of(const std::vector<Part>& parts) const {
  std::vector<Gradient> gradients(tensors_.size());
  for (const Part& part : parts) {
    if (!part.place.on_host()) {
      throw py::value_error(
          std::string(asked_for(dense_groups(), clip_)) +
          ": gradients of a thresholded step are looked at on the CPU only, and " +
          plan_.where(part.members.front()).text() + " is on " + device_text(part.place.device));
    }
    for (std::size_t i = 0; i < part.members.size(); ++i) {
      const ThresholdTensor& t = part.tensors[i];
      const std::size_t tensor = part.members[i];
      gradients[tensor] = {t.grad.data, kDenseTypes[t.types].grad, t.n, t.grad.layout};
    }
  }
  return gradients;
}

py::array_t<double> ThresholdCall::squares() {
  const std::vector<Gradient> gradients = gradients_of(split());
  SquareSums sums;
  {
    const WithoutGil released;
    sums = square_sums(gradients);
  }
  return as_array(sums);
}

// Stages are by tensor of the call. Nothing is written.
Clipping ThresholdCall::judge(const std::vector<Part>& parts, const py::object& squares) const {
  const std::vector<DenseGroup> groups = dense_groups();
  if (!clips(groups, clip_)) return {};
  const std::vector<Gradient> gradients = gradients_of(parts);
  std::vector<int> group_of;
  for (const Tensor& tensor : tensors_) group_of.push_back(static_cast<int>(tensor.group));
  SquareSums sums;
  if (!squares.is_none()) sums = read_squares(squares, tensors_.size());
  const SquareSums* const known = squares.is_none() ? nullptr : &sums;
  const WithoutGil released;
  return clipping_of(gradients, group_of, groups, clip_, {}, known);
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
