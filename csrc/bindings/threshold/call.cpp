#include "bindings/threshold/call.h"

#include <algorithm>
#include <limits>
#include <string>

#include "bindings/select/amounts.h"
#include "bindings/threshold/part.h"

namespace subgrad {
namespace {

// An optional list of arrays: None, or as many entries as there are parameters.
std::vector<py::object> optional_list(const py::object& argument, const char* name,
                                      std::size_t length) {
  if (argument.is_none()) return std::vector<py::object>(length, py::none());
  ArrayList list = array_list(argument, name);
  require_length(list, name, length);
  return std::move(list.items);
}

}  // namespace

// A number in device memory, which is read when the work runs; null for None.
const void* number_on(const Place& place, const py::object& array, const char* name, DType dtype) {
  if (array.is_none()) return nullptr;
  const Where where{name};
  const ArrayView view = view_array(array, where, Memory::any);
  if (place.on_host()) {
    throw py::value_error(where.text() + ": is on a device, and the arrays are not");
  }
  if (view.device != place.device || view.dtype != dtype || view.size() != 1) {
    throw py::value_error(where.text() + ": expected one " + name_of(dtype) + " on " +
                          device_text(place.device) + ", got " + view.describe() + " on " +
                          device_text(view.device));
  }
  return view.data;
}

Selector Choice::for_scope(std::int64_t n, std::optional<double> last, bool shared) const {
  Selector selector;
  if (kind == Selector::Kind::absolute) {
    selector.threshold = *threshold;
    return selector;
  }
  if (reuses && !shared) selector.threshold = last.value_or(0.0);
  selector.kind = shared ? Selector::Kind::exact : kind;
  selector.k = density.has_value() ? k_of(*density, n) : std::min<std::int64_t>(*k, n);
  return selector;
}

void ThresholdCall::add(const py::object& params, const py::object& grads,
                        const py::object& residuals, const py::object& momentum_buffers,
                        const SgdParams& hyper, const py::object& lr, bool momentum_correction,
                        bool momentum_masking, const Choice& choice, bool together,
                        const std::vector<bool>& first, const std::vector<bool>& fresh,
                        const std::vector<std::optional<double>>& last, const Peers* peers) {
  const ArrayList param_list = array_list(params, "params");
  const std::size_t n = param_list.items.size();
  const ArrayList grad_list = array_list(grads, "grads");
  require_length(grad_list, "grads", n);
  const auto residual_list = optional_list(residuals, "residuals", n);
  const auto momentum_list = optional_list(momentum_buffers, "momentum_buffers", n);
  if (first.size() != n || fresh.size() != n) {
    throw py::value_error("params: has " + std::to_string(n) + " arrays, and says that it has " +
                          std::to_string(first.size()));
  }
  const std::size_t group = groups_.size(), first_scope = scope_sizes_.size();
  if (together && n > 0) scope_sizes_.push_back(0);
  for (std::size_t i = 0; i < n; ++i) {
    const auto index = param_list.single ? -1 : static_cast<std::ptrdiff_t>(tensors_.size());
    plan_.add(param_list.items[i], grad_list.items[i], residual_list[i], momentum_list[i], index);
    const std::size_t tensor = plan_.size() - 1;
    if (hyper.momentum != 0.0 && !plan_.has_momentum(tensor)) {
      throw py::value_error(plan_.where(tensor).text() +
                            ": has no entry in momentum_buffers, and momentum is not 0");
    }
    if (!together) scope_sizes_.push_back(0);
    scope_sizes_.back() += plan_.elements(tensor);
    tensors_.push_back({param_list.items[i], grad_list.items[i], residual_list[i], momentum_list[i],
                        group, scope_sizes_.size() - 1, first[i], fresh[i]});
  }
  const std::size_t scopes = scope_sizes_.size() - first_scope;
  scope_groups_.resize(scope_sizes_.size(), group);
  // Thresholds of another number of scopes are those of other arrays.
  const auto none = std::vector<std::optional<double>>(scopes);
  if (peers != nullptr && (!together || peers->parts.size() != n)) {
    throw py::value_error("peers: expected a part for each array of one scope");
  }
  groups_.push_back({hyper, lr, momentum_correction, momentum_masking, choice,
                     last.size() == scopes ? last : none, first_scope, scopes,
                     peers != nullptr ? std::optional(*peers) : std::nullopt});
}

const Peers* ThresholdCall::peers_of(std::size_t scope) const {
  const std::optional<Peers>& peers = groups_[scope_groups_[scope]].peers;
  return peers.has_value() ? &*peers : nullptr;
}

// Tensors of one scope are computed in one type, and are in one place.
void ThresholdCall::check_scopes() const {
  std::vector<std::ptrdiff_t> first(scope_sizes_.size(), -1);
  for (std::size_t i = 0; i < tensors_.size(); ++i) {
    std::ptrdiff_t& f = first[tensors_[i].scope];
    if (f < 0) f = static_cast<std::ptrdiff_t>(i);
    const auto other = static_cast<std::size_t>(f);
    if (plan_.place(other).device != plan_.place(i).device) {
      throw py::value_error("scope: one threshold needs one device, and of its parameters " +
                            plan_.where(other).text() + " is on " +
                            device_text(plan_.place(other).device) + " and " +
                            plan_.where(i).text() + " on " + device_text(plan_.place(i).device));
    }
    if (plan_.type(other) != plan_.type(i)) {
      throw py::type_error("scope: " + plan_.where(other).text() + " is computed in " +
                           name_of(plan_.type(other)) + " and " + plan_.where(i).text() + " in " +
                           name_of(plan_.type(i)) + "; one threshold needs one type");
    }
  }
}

ThresholdCall::Part& ThresholdCall::part_of(std::vector<Part>& parts, std::size_t tensor) const {
  const Place& place = plan_.place(tensor);
  for (Part& part : parts) {
    if (part.place.device == place.device) return part;
  }
  parts.emplace_back();
  parts.back().place = place;
  return parts.back();
}

// A group's number in a part. A learning rate on a device is read there; elsewhere it is a number.
int ThresholdCall::group_in(Part& part, std::size_t number, std::size_t tensor) const {
  if (part.sources.empty() || part.sources.back() != number) {
    const Group& group = groups_[number];
    ThresholdGroup made{group.hyper, nullptr, group.momentum_correction, group.momentum_masking};
    if (!group.lr.is_none()) {
      const ArrayView view = view_array(group.lr, {"lr"}, Memory::any);
      if (view.device == plan_.place(tensor).device) {
        made.lr = static_cast<const float*>(number_on(part.place, group.lr, "lr", DType::f32));
      } else {
        set_sgd_field(made.params, kSgdFields[0], group.lr.ptr());
      }
    }
    part.groups.push_back(made);
    part.sources.push_back(number);
  }
  return static_cast<int>(part.groups.size()) - 1;
}

int ThresholdCall::scope_in(Part& part, const Tensor& tensor) const {
  if (part.scopes.empty() || part.scopes.back() != tensor.scope) {
    const Group& group = groups_[tensor.group];
    const auto last = part.place.on_host() ? group.last[tensor.scope - group.first_scope]
                                           : std::optional<double>();
    const Peers* peers = peers_of(tensor.scope);
    const std::int64_t n = peers != nullptr ? peers->elements : scope_sizes_[tensor.scope];
    part.selectors.push_back(group.choice.for_scope(n, last, peers != nullptr));
    part.scopes.push_back(tensor.scope);
  }
  return static_cast<int>(part.scopes.size()) - 1;
}

// Whatever can be wrong with the arrays is found here.
std::vector<ThresholdCall::Part> ThresholdCall::split() {
  constexpr std::int64_t kInt32 = std::numeric_limits<std::int32_t>::max();
  if (!sealed_) plan_.seal();
  sealed_ = true;
  check_scopes();
  std::vector<Part> parts;
  for (std::size_t i = 0; i < tensors_.size(); ++i) {
    Part& part = part_of(parts, i);
    const std::string name = plan_.where(i).text();
    if (options_.index_bytes == 4 && plan_.elements(i) > kInt32) {
      throw py::value_error("emit: " + name + " has " + std::to_string(plan_.elements(i)) +
                            " elements, more than 'int32' can index");
    }
    if (options_.index_bytes != 0 && !part.place.on_host() && plan_.order(i) != nullptr) {
      throw py::value_error("emit: on " + device_text(part.place.device) + " " + name +
                            " must be in row-major order");
    }
    const Tensor& given = tensors_[i];
    ThresholdTensor t = plan_.tensor(i, groups_[given.group].hyper.momentum != 0.0);
    t.group = group_in(part, given.group, i);
    t.scope = scope_in(part, given);
    t.first = given.first;
    t.fresh = given.fresh;
    part.tensors.push_back(t);
    part.members.push_back(i);
  }
  return parts;
}

}  // namespace subgrad
