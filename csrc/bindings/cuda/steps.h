// The part of a dense step that runs on devices.
#pragma once

#include <vector>

#include "bindings/cuda/backend.h"

namespace subgrad {

// The tensors of a dense step, by device. Each device's part goes to the stream that its tensors'
// library is working in; nothing waits for it.
class CudaSteps {
 public:
  // Registers a device; throws ValueError naming the argument if kernels cannot run there.
  void require(const ArrayView& view, const Where& where);

  bool any() const { return !devices_.empty(); }
  void begin();
  // Null counts: the host knows what the tensor's memory holds.
  void add(int device, const DenseTensor& tensor, CudaStepCounts* counts);

  // Where tensors have been added since the beginning.
  std::vector<Place> places() const;
  // Counts for all tensors together.
  void share_counts(CudaStepCounts* counts);
  bool counted() const;

  // Looks at the gradients: those of each device by themselves. `measured`: their norm, which is
  // returned as an array of one float64 there, bounds them. Throws RuntimeError if CUDA reports an
  // error.
  py::object judge(const std::vector<DenseGroup>& groups, const CudaClip& clip, NormScope scope,
                   bool measured);

  // Launches everything. Throws RuntimeError if CUDA reports an error.
  void run(const std::vector<DenseGroup>& groups);

 private:
  struct Device {
    Place place;
    std::vector<DenseTensor> tensors;
    std::vector<CudaStepCounts*> counts;  // by tensor
    bool judged = false;
    CudaDenseOptions options;
    py::object scratch;  // kept from step to step
    void* scratch_data = nullptr;
    std::size_t scratch_bytes = 0;
  };
  py::object measure(Device& device, int groups) const;

  std::vector<Device> devices_;
};

// Counts on a device that begin with these numbers. Their memory lives as long as the object.
struct StepCounts {
  py::object array;
  CudaStepCounts* data = nullptr;
};
StepCounts new_step_counts(const Place& place, std::int64_t momentum, std::int64_t average);

}  // namespace subgrad
