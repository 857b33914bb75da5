#include "bindings/cuda/steps.h"

#include <algorithm>

#include "bindings/border/new_arrays.h"
#include "rules/table.h"

namespace subgrad {

void CudaSteps::require(const ArrayView& view, const Where& where) {
  for (const Device& d : devices_) {
    if (d.place.device == view.device) return;
  }
  const Place place(view);
  require_cuda(place, where);
  devices_.emplace_back().place = place;
}

void CudaSteps::begin() {
  for (Device& d : devices_) {
    d.tensors.clear();
    d.counts.clear();
    d.judged = false;
  }
}

void CudaSteps::add(int device, const DenseTensor& tensor, CudaStepCounts* counts) {
  for (Device& d : devices_) {
    if (d.place.device != device) continue;
    d.tensors.push_back(tensor);
    d.counts.push_back(counts);
    return;
  }
}

std::vector<Place> CudaSteps::places() const {
  std::vector<Place> places;
  for (const Device& d : devices_) {
    if (!d.tensors.empty()) places.push_back(d.place);
  }
  return places;
}

void CudaSteps::share_counts(CudaStepCounts* counts) {
  for (Device& d : devices_) std::fill(d.counts.begin(), d.counts.end(), counts);
}

bool CudaSteps::counted() const {
  return std::any_of(devices_.begin(), devices_.end(), [](const Device& d) {
    return std::any_of(d.counts.begin(), d.counts.end(),
                       [](const CudaStepCounts* counts) { return counts != nullptr; });
  });
}

py::object CudaSteps::judge(const std::vector<DenseGroup>& groups, const CudaClip& clip,
                            NormScope scope, bool measured) {
  py::object norm;
  for (Device& d : devices_) {
    if (d.tensors.empty()) continue;
    d.options.clip = clip;
    d.options.scope = scope;
    d.options.groups = static_cast<int>(groups.size());
    d.options.counts = counted() ? d.counts.data() : nullptr;
    if (measured) norm = measure(d, d.options.groups);
    d.judged = true;
  }
  return norm;
}

py::object CudaSteps::measure(Device& d, int groups) const {
  std::vector<Gradient> gradients;
  std::vector<int> group_of;
  for (const DenseTensor& t : d.tensors) {
    gradients.push_back({const_cast<void*>(t.grad), kDenseTypes[t.types].grad, t.n, nullptr});
    group_of.push_back(t.group);
  }
  std::size_t bytes = 0;
  launch_cuda(d.place, [&](const CudaApi& api, void*) {
    return api.clip_bytes(gradients.data(), gradients.size(), groups, &bytes);
  });
  if (d.scratch_bytes < bytes) {
    const NewArray scratch = new_on_device(d.place, kDLBytes, static_cast<std::int64_t>(bytes));
    d.scratch = scratch.object;
    d.scratch_data = scratch.data;
    d.scratch_bytes = bytes;
  }
  const NewArray norm = new_on_device(d.place, dl_type(DType::f64), 1);
  launch_cuda(d.place, [&](const CudaApi& api, void* stream) {
    return api.clip_measure(d.place.device, stream, gradients.data(), gradients.size(),
                            d.options.scope == NormScope::group ? group_of.data() : nullptr, groups,
                            &d.options.clip, d.scratch_data, static_cast<double*>(norm.data));
  });
  d.options.clip.sums = static_cast<const SquareSum*>(d.scratch_data);
  return norm.object;
}

void CudaSteps::run(const std::vector<DenseGroup>& groups) {
  for (const Device& d : devices_) {
    if (d.tensors.empty()) continue;
    launch_cuda(d.place, [&](const CudaApi& api, void* stream) {
      return api.dense_step(d.place.device, stream, d.tensors.data(), d.tensors.size(),
                            groups.data(), d.judged ? &d.options : nullptr);
    });
  }
}

StepCounts new_step_counts(const Place& place, std::int64_t momentum, std::int64_t average) {
  const NewArray counts = new_on_device(place, kDLInt32, 4);
  StepCounts made{counts.object, static_cast<CudaStepCounts*>(counts.data)};
  launch_cuda(place, [&](const CudaApi& api, void* stream) {
    return api.set_step_counts(place.device, stream, made.data, static_cast<int>(momentum),
                               static_cast<int>(average));
  });
  return made;
}

}  // namespace subgrad
