// The thresholded step on a device: what the launchers are given. Python makes the memory for
// results and scratch, by the allocator of the arrays' library, and hands over addresses.
#include <pybind11/stl.h>

#include <optional>
#include <tuple>

#include "bindings/cuda/backend.h"
#include "bindings/registrars.h"
#include "bindings/threshold/arguments.h"
#include "bindings/threshold/plan.h"

namespace subgrad {
namespace {

void* at(std::uintptr_t address) { return reinterpret_cast<void*>(address); }

// Addresses of indices and values, and how many there is room for; one for each array.
using Outputs = std::vector<std::tuple<std::uintptr_t, std::uintptr_t, std::int64_t>>;

// A number in device memory, which is read when the work runs; null for None.
const void* number_on(int device, const py::object& array, const Where& where, DType dtype) {
  if (array.is_none()) return nullptr;
  const ArrayView view = view_array(array, where, Memory::any);
  if (view.device != device || view.dtype != dtype || view.size() != 1) {
    throw py::value_error(where.text() + ": expected one " + name_of(dtype) + " on " +
                          device_text(device) + ", got " + view.describe() + " on " +
                          device_text(view.device));
  }
  return view.data;
}

class CudaThresholdStep {
 public:
  // `threshold` and `rates`: numbers in device memory that are read in place of the selectors' and
  // of each row's; or None.
  CudaThresholdStep(const py::object& params, const py::object& grads, const py::object& residuals,
                    const py::object& momentum_buffers, const std::vector<ThresholdParams>& rows,
                    const std::vector<Selector>& selectors,
                    const std::vector<Placement>& placements, int index_bytes, bool measure,
                    const py::object& threshold, const std::vector<py::object>& rates)
      : arrays_{params, grads, residuals, momentum_buffers, threshold},
        rates_(rates),
        plan_(params, grads, residuals, momentum_buffers, Memory::any),
        options_{index_bytes, measure} {
    if (plan_.size() == 0) throw py::value_error("params: expected at least one array");
    const py::object first = array_list(params, "params").items[0];
    const ArrayView view = view_array(first, plan_.where(0), Memory::any);
    device_ = view.device;
    library_ = view.api;
    check_scopes(plan_, placements, selectors.size());
    for (std::size_t i = 0; i < rows.size(); ++i) {
      const py::object rate = i < rates.size() ? rates[i] : py::none();
      rows_.push_back({rows[i].sgd,
                       static_cast<const float*>(number_on(device_, rate, {"lr"}, DType::f32)),
                       rows[i].momentum_correction, rows[i].momentum_masking});
    }
    const void* cut = number_on(device_, threshold, {"threshold"}, DType::f64);
    for (const Selector& s : selectors) {
      const bool exact = s.kind != Selector::Kind::absolute;
      scopes_.push_back({s.threshold, static_cast<const double*>(cut), exact ? s.k : -1});
    }
    for (const ThresholdSegment& s : segments_of(plan_, rows, placements, index_bytes)) {
      const std::size_t i = tensors_.size();
      if (index_bytes != 0 && plan_.order(i) != nullptr) {
        throw py::value_error("emit: on " + device_text(device_) + " " + plan_.where(i).text() +
                              " must be in row-major order");
      }
      tensors_.push_back({s.param.data,
                          s.grad.data,
                          s.momentum.data,
                          s.residual.data,
                          s.n,
                          static_cast<int>(s.row),
                          s.types_row,
                          static_cast<int>(s.scope),
                          s.first,
                          s.fresh,
                          {nullptr, nullptr, kCudaUnlimited}});
    }
  }

  std::size_t scratch_bytes() const {
    std::size_t bytes = 0;
    launch([&](const CudaApi& api, void*) {
      return api.threshold_bytes(tensors_.data(), tensors_.size(), scopes_.data(), scopes_.size(),
                                 &options_, &bytes);
    });
    return bytes;
  }

  // The addresses of scratch memory and of the report. `capacity`: for how many of each array there
  // will be room.
  void begin(std::uintptr_t scratch, std::uintptr_t kept, std::uintptr_t thresholds,
             std::uintptr_t energies, std::optional<std::int64_t> capacity,
             const py::list& versioned) {
    scratch_ = at(scratch);
    report_ = {static_cast<std::int64_t*>(at(kept)), static_cast<double*>(at(thresholds)),
               static_cast<double*>(at(energies))};
    if (capacity.has_value()) {
      for (CudaThresholdTensor& t : tensors_) t.kept.capacity = *capacity;
    }
    if (!versioned.empty()) increment_versions(versioned);
    launch([&](const CudaApi& api, void* stream) {
      return api.threshold_begin(device_, stream, tensors_.data(), tensors_.size(), rows_.data(),
                                 scopes_.data(), scopes_.size(), &options_, scratch_, &report_);
    });
  }

  void finish(const Outputs& outputs) {
    for (std::size_t i = 0; i < outputs.size() && i < tensors_.size(); ++i) {
      const auto& [indices, values, capacity] = outputs[i];
      tensors_[i].kept = {at(indices), at(values), capacity};
    }
    if (options_.index_bytes != 0 && outputs.size() != tensors_.size()) {
      throw py::value_error("outputs: not one for each param");
    }
    launch([&](const CudaApi& api, void* stream) {
      return api.threshold_finish(device_, stream, tensors_.data(), tensors_.size(), rows_.data(),
                                  scopes_.data(), scopes_.size(), &options_, scratch_, &report_);
    });
  }

 private:
  template <class Launch>
  void launch(const Launch& body) const {
    launch_cuda(device_, library_, body);
  }

  py::object arrays_[5];  // which keep the memory
  std::vector<py::object> rates_;
  ThresholdPlan plan_;
  CudaThresholdOptions options_;
  int device_;
  const DLPackExchangeAPI* library_;
  std::vector<CudaThresholdRow> rows_;
  std::vector<CudaScope> scopes_;
  std::vector<CudaThresholdTensor> tensors_;
  void* scratch_ = nullptr;
  CudaSelectReport report_ = {};
};

}  // namespace

void register_cuda_threshold(py::module_& m) {
  using namespace py::literals;

  py::class_<CudaThresholdStep>(m, "CudaThresholdStep")
      .def(py::init<const py::object&, const py::object&, const py::object&, const py::object&,
                    const std::vector<ThresholdParams>&, const std::vector<Selector>&,
                    const std::vector<Placement>&, int, bool, const py::object&,
                    const std::vector<py::object>&>(),
           "params"_a, "grads"_a, "residuals"_a, "momentum_buffers"_a, "rows"_a, "selectors"_a,
           "placements"_a, "index_bytes"_a, "measure"_a, "threshold"_a, "rates"_a)
      .def_property_readonly("scratch_bytes", &CudaThresholdStep::scratch_bytes)
      .def("begin", &CudaThresholdStep::begin, "scratch"_a, "kept"_a, "thresholds"_a, "energies"_a,
           "capacity"_a, "versioned"_a)
      .def("finish", &CudaThresholdStep::finish, "outputs"_a);
}

}  // namespace subgrad
