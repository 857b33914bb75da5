// What of a thresholded step is in one place: a launcher's lists, and which tensors and scopes of
// the call they are of.
#pragma once

#include <vector>

#include "bindings/threshold/call.h"
#include "cpu/threshold/report.h"
#include "cpu/threshold/threshold.h"
#include "cuda/api.h"

namespace subgrad {

struct ThresholdCall::Part {
  Place place;
  std::vector<std::size_t> members;  // tensors of the call
  std::vector<std::size_t> scopes;   // of the call
  std::vector<std::size_t> sources;  // by group here, the call's
  std::vector<ThresholdGroup> groups;
  std::vector<Selector> selectors;
  std::vector<ThresholdTensor> tensors;

  ThresholdResult result;  // on the host

  // On a device.
  std::vector<py::object> kept_alive;
  void* scratch = nullptr;
  CudaReport report = {};
  py::object kept, thresholds, energies;
};

// A number in device memory, which is read when the work runs; null for None. Throws ValueError for
// an array that is not one number of that type in that place.
const void* number_on(const Place& place, const py::object& array, const char* name, DType dtype);

}  // namespace subgrad
