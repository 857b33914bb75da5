// A thresholded step as it runs, in each place that its tensors are in.
#include <pybind11/stl.h>

#include "bindings/border/gil.h"
#include "bindings/cuda/backend.h"
#include "bindings/select/amounts.h"
#include "bindings/threshold/part.h"

namespace subgrad {
namespace {

std::optional<double> following_threshold(const Choice& choice, std::int64_t n, double threshold,
                                          std::int64_t kept) {
  if (!choice.reuses || n == 0 || *choice.density == 0.0) return std::nullopt;
  const double next = next_threshold(threshold, kept, k_of(*choice.density, n));
  return next == next ? std::optional(next) : std::nullopt;
}

}  // namespace

void ThresholdCall::announce(const py::object& announced) const {
  if (!announced.is_none()) {
    if (py::len(announced) > 0) increment_versions(announced);
    return;
  }
  py::list written;
  for (const Tensor& t : tensors_) {
    for (const py::object* array : {&t.param, &t.residual, &t.momentum}) {
      if (!array->is_none() && has_version(*array)) written.append(*array);
    }
  }
  if (!written.empty()) increment_versions(written);
}

// A device selects exactly, and reading a threshold there would wait for it.
void ThresholdCall::remember(const std::vector<Part>& parts, const ThresholdReport& report,
                             const std::vector<std::vector<py::dict>>& memories) const {
  for (const Part& part : parts) {
    if (!part.place.on_host()) continue;
    for (const std::size_t scope : part.scopes) {
      const std::size_t g = scope_groups_[scope], s = scope - groups_[g].first_scope;
      if (memories[g].empty()) continue;
      const py::object next = py::cast(report.following[g][s]);
      if (PyDict_SetItemString(memories[g][s].ptr(), "next_threshold", next.ptr()) != 0) {
        throw py::error_already_set();
      }
    }
  }
}

// --- On the host ---------------------------------------------------------------------------------

void ThresholdCall::run_on_host(Part& part, const Clipping& clipping,
                                ThresholdReport& report) const {
  ThresholdResult& result = part.result;
  Stages stages;
  if (!clipping.stages.empty()) {
    for (const std::size_t tensor : part.members) stages.push_back(clipping.stages[tensor]);
  }
  std::vector<const Peers*> peers;
  for (const std::size_t scope : part.scopes) peers.push_back(peers_of(scope));
  {
    const WithoutGil released;
    result = run_threshold(part.tensors, part.groups, part.selectors, options_, stages, peers);
  }
  std::vector<std::int64_t> kept_of(part.scopes.size());
  for (std::size_t i = 0; i < part.tensors.size(); ++i) {
    kept_of[static_cast<std::size_t>(part.tensors[i].scope)] += result.kept[i];
  }
  for (std::size_t s = 0; s < part.scopes.size(); ++s) {
    const std::size_t scope = part.scopes[s];
    const std::size_t g = scope_groups_[scope];
    if (peers[s] != nullptr) continue;  // whose number is met exactly
    report.following[g][scope - groups_[g].first_scope] = following_threshold(
        groups_[g].choice, scope_sizes_[scope], result.thresholds[s], kept_of[s]);
  }
}

PlaceReport ThresholdCall::report_of_host(const Part& part, py::list& selections) const {
  const ThresholdResult& result = part.result;
  py::object energies = py::none();
  if (options_.measure) {
    py::list numbers;
    for (const Energy& e : result.energies) {
      numbers.append(e.kept);
      numbers.append(e.rest);
    }
    energies = numbers;
  }
  PlaceReport made{true, py::cast(result.kept), py::cast(result.thresholds), energies};
  if (options_.index_bytes == 0) return made;

  const auto index_type =
      options_.index_bytes == 4 ? py::dtype::of<std::int32_t>() : py::dtype::of<std::int64_t>();
  std::vector<KeptList> lists;
  std::vector<std::pair<py::array, py::array>> arrays;
  for (std::size_t i = 0; i < part.members.size(); ++i) {
    const DType type = plan_.type(part.members[i]);
    const auto value_type = type == DType::f64 ? py::dtype::of<double>() : py::dtype::of<float>();
    auto& [indices, values] = arrays.emplace_back(py::array(index_type, result.kept[i]),
                                                  py::array(value_type, result.kept[i]));
    lists.push_back({static_cast<char*>(indices.mutable_data()),
                     static_cast<char*>(values.mutable_data()), size_of(type),
                     plan_.order(part.members[i])});
  }
  {
    const WithoutGil released;
    place(result.runs, options_.index_bytes, lists);
  }
  for (std::size_t i = 0; i < part.members.size(); ++i) {
    const Source source = plan_.source(part.members[i]);
    const auto& [indices, values] = arrays[i];
    selections[part.members[i]] =
        py::make_tuple(in_library(source, indices), in_library(source, values));
  }
  return made;
}

// --- On a device ---------------------------------------------------------------------------------

void ThresholdCall::begin_on_device(Part& part, const py::object& threshold,
                                    std::optional<std::int64_t> capacity) const {
  const Place& place = part.place;
  const void* cut = number_on(place, threshold, "threshold", DType::f64);
  for (Selector& s : part.selectors) s.threshold_on_device = static_cast<const double*>(cut);
  if (capacity.has_value()) {
    for (ThresholdTensor& t : part.tensors) t.kept.capacity = *capacity;
  }
  std::size_t bytes = 0;
  launch_cuda(place, [&](const CudaApi& api, void*) {
    return api.threshold_bytes(part.tensors.data(), part.tensors.size(), part.selectors.data(),
                               part.selectors.size(), &options_, &bytes);
  });
  const auto make = [&](DLDataType type, std::size_t count) {
    NewArray made = new_on_device(place, type, static_cast<std::int64_t>(count));
    part.kept_alive.push_back(made.object);
    return made;
  };
  const NewArray scratch = make(kDLBytes, bytes);
  const NewArray kept = make(kDLInt64, part.tensors.size());
  const NewArray thresholds = make(dl_type(DType::f64), part.selectors.size());
  part.scratch = scratch.data;
  part.kept = kept.object;
  part.thresholds = thresholds.object;
  part.energies = py::none();
  part.report = {static_cast<std::int64_t*>(kept.data), static_cast<double*>(thresholds.data),
                 nullptr};
  if (options_.measure) {
    const NewArray energies = make(dl_type(DType::f64), 2 * part.tensors.size());
    part.energies = energies.object;
    part.report.energies = static_cast<double*>(energies.data);
  }
}

PlaceReport ThresholdCall::finish_on_device(Part& part, std::optional<std::int64_t> capacity,
                                            py::list& selections) const {
  const Place& place = part.place;
  if (options_.index_bytes != 0) {
    std::vector<std::int64_t> counts;
    if (!capacity.has_value()) counts = read_numbers(part.kept).cast<std::vector<std::int64_t>>();
    for (std::size_t i = 0; i < part.tensors.size(); ++i) {
      const std::int64_t room = capacity.has_value() ? *capacity : counts[i];
      const NewArray indices =
          new_on_device(place, options_.index_bytes == 4 ? kDLInt32 : kDLInt64, room);
      const NewArray values = new_on_device(place, dl_type(plan_.type(part.members[i])), room);
      part.tensors[i].kept = {indices.data, values.data, room};
      selections[part.members[i]] = py::make_tuple(indices.object, values.object);
    }
  }
  launch_cuda(place, [&](const CudaApi& api, void* stream) {
    return api.threshold_finish(place.device, stream, part.tensors.data(), part.tensors.size(),
                                part.groups.data(), part.selectors.data(), part.selectors.size(),
                                &options_, part.scratch, &part.report);
  });
  return {false, part.kept, part.thresholds, part.energies};
}

ThresholdReport ThresholdCall::run(
    const py::object& threshold, std::optional<std::int64_t> capacity, const py::object& announced,
    const std::vector<std::tuple<py::dict, py::str, py::object>>& then,
    const std::vector<std::vector<py::dict>>& memories, const py::object& thresholds,
    const py::object& squares) {
  for (std::size_t g = 0; g < memories.size(); ++g) {
    if (memories.size() != groups_.size() ||
        (!memories[g].empty() && memories[g].size() != groups_[g].scopes)) {
      throw py::value_error("memories: expected one for each scope of each group");
    }
  }
  std::vector<Part> parts = split();
  for (Part& part : parts) {
    if (part.place.on_host()) {
      number_on(part.place, threshold, "threshold", DType::f64);
      if (capacity.has_value()) {
        throw py::value_error("capacity: has a meaning for arrays on a device only");
      }
    } else {
      begin_on_device(part, threshold, capacity);
    }
  }
  ThresholdReport report;
  report.places.resize(parts.size());
  report.members.resize(tensors_.size());
  for (std::size_t p = 0; p < parts.size(); ++p) {
    for (std::size_t i = 0; i < parts[p].members.size(); ++i) {
      report.members[parts[p].members[i]] = {static_cast<int>(p), static_cast<int>(i),
                                             parts[p].tensors[i].scope};
    }
  }
  for (std::size_t i = 0; i < tensors_.size(); ++i) report.sizes.push_back(plan_.elements(i));
  for (const Group& group : groups_) report.following.emplace_back(group.scopes);
  py::list selections(options_.index_bytes != 0 ? tensors_.size() : 0);

  const Clipping clipping = judge(parts, squares);
  if (clipping.measured) report.grad_norm = clipping.norm;
  if (clipping.skip) {
    for (std::size_t p = 0; p < parts.size(); ++p) {
      keep_nothing(parts[p]);
      report.places[p] = report_of_host(parts[p], selections);
    }
    report.selections = options_.index_bytes != 0 ? py::object(selections) : py::none();
    return report;
  }
  announce(announced);
  // Devices begin first: that can fail, and they work beside the host.
  for (Part& part : parts) {
    if (part.place.on_host()) continue;
    launch_cuda(part.place, [&](const CudaApi& api, void* stream) {
      return api.threshold_begin(part.place.device, stream, part.tensors.data(),
                                 part.tensors.size(), part.groups.data(), part.selectors.data(),
                                 part.selectors.size(), &options_, part.scratch, &part.report);
    });
  }
  for (std::size_t p = 0; p < parts.size(); ++p) {
    if (parts[p].place.on_host()) {
      run_on_host(parts[p], clipping, report);
    } else {
      report.places[p] = finish_on_device(parts[p], capacity, selections);
    }
  }
  for (const auto& [dict, key, value] : then) {
    if (PyDict_SetItem(dict.ptr(), key.ptr(), value.ptr()) != 0) throw py::error_already_set();
  }
  if (!memories.empty()) remember(parts, report, memories);
  if (!thresholds.is_none()) {
    const py::list following = py::cast(report.following.at(0));
    if (PyList_SetSlice(thresholds.ptr(), 0, PY_SSIZE_T_MAX, following.ptr()) != 0) {
      throw py::error_already_set();
    }
  }
  for (std::size_t p = 0; p < parts.size(); ++p) {
    if (parts[p].place.on_host()) report.places[p] = report_of_host(parts[p], selections);
  }
  report.selections = options_.index_bytes != 0 ? py::object(selections) : py::none();
  return report;
}

}  // namespace subgrad
