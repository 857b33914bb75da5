// How a plan looks at its gradients before a step: all in one place, or each where it is.
#include <string>

#include "bindings/border/gil.h"
#include "bindings/dense/plan.h"
#include "rules/table.h"

namespace subgrad {

bool DensePlan::together(const std::vector<DenseGroup>& groups, const GivenOptions& options) const {
  const std::vector<Place> places = cuda_.places();
  const bool shares = measures(groups, options) || options.on_device() || options.may_skip();
  if (places.empty() || !shares) return true;
  if (places.size() > 1 || bound_ > 0) return false;
  for (const DeviceNumber* number : {&options.scale_there, &options.found_there}) {
    if (*number && number->device != places[0].device) return false;
  }
  return true;
}

void DensePlan::require_together(const std::vector<DenseGroup>& groups,
                                 const GivenOptions& options) const {
  if (together(groups, options)) return;
  std::string where = bound_ > 0 ? "cpu" : "";
  for (const Place& place : cuda_.places()) {
    where += (where.empty() ? "" : " and ") + device_text(place.device);
  }
  throw py::value_error(
      "grads: a norm, or a step that they may stop, needs all of them and what it is judged by in "
      "one place; they are on " +
      where);
}

std::optional<Place> DensePlan::one_device() const {
  const std::vector<Place> places = cuda_.places();
  return places.size() == 1 && bound_ == 0 ? std::optional(places[0]) : std::nullopt;
}

void DensePlan::judge_devices(const std::vector<DenseGroup>& groups, const GivenOptions& options,
                              Found& found) {
  CudaClip clip;
  clip.grad_scale = options.grad_scale;
  clip.grad_scale_on_device = options.scale_there.data;
  clip.found_inf = options.found_there.data;
  clip.skip_nonfinite = options.skip_nonfinite;
  found.looked = true;
  found.skip = options.found_inf;
  found.given = options;
  found.norm_there = cuda_.judge(groups, clip, options.scope, measures(groups, options));
}

// Of the tensors on the host.
void DensePlan::list_gradients() {
  gradients_.clear();
  group_of_.clear();
  for (std::size_t i = 0; i < work_.size(); ++i) {
    const DenseTensor& s = work_[i];
    // A tensor that takes no part has no say in the type of the norm.
    const bool taken = s.grad != nullptr;
    const DType dtype = taken ? kDenseTypes[s.types].grad : DType::f32;
    gradients_.push_back({const_cast<void*>(s.grad), dtype, taken ? s.n : 0, s.layout});
    group_of_.push_back(tensors_[i].group);
  }
  for (const auto& [i, dtype] : empty_) gradients_[i].dtype = dtype;
}

SquareSums DensePlan::squares() {
  if (!on_devices_.empty()) {
    throw py::value_error("grads: sums of squares are told of those on the CPU");
  }
  list_gradients();
  SquareSums sums;
  without_gil(bound_, kStepElements, [&] { sums = square_sums(gradients_); });
  return sums;
}

Found DensePlan::measure(const std::vector<DenseGroup>& groups, const GivenOptions& options,
                         const std::vector<Measured>& others, const SquareSums* squares) {
  require_together(groups, options);
  Found found;
  if (!on_devices_.empty()) judge_devices(groups, options, found);
  if (!on_devices_.empty() && bound_ == 0) return found;
  const ClipOptions here = options.read();
  list_gradients();
  Clipping& clipping = found;
  without_gil(bound_, kStepElements, [&] {
    clipping = clipping_of(gradients_, group_of_, groups, here, others, squares);
  });
  return found;
}

}  // namespace subgrad
