#include "bindings/sampling/weighted.h"

#include <pybind11/stl.h>

#include <cstdio>
#include <map>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "bindings/sampling/keys.h"
#include "bindings/sampling/target.h"
#include "cpu/loading/gather.h"
#include "cpu/sampling/weights.h"

namespace subgrad {
namespace {

double checked_largest(const std::vector<double>& weights) {
  WeightCheck check;
  const auto n = static_cast<std::int64_t>(weights.size());
  without_gil(n, [&] { check = check_weights(weights.data(), n); });
  if (check.bad >= 0) {
    char value[32];
    std::snprintf(value, sizeof value, "%g", weights[static_cast<std::size_t>(check.bad)]);
    throw py::value_error("weights[" + std::to_string(check.bad) +
                          "]: expected a finite number >= 0, got " + value);
  }
  return check.largest;
}

// Weights and their alias tables on devices.
class HeldWeights {
 public:
  // The weights are copied first: the caller may change his own meanwhile.
  HeldWeights(const WeightArray& array, std::optional<int> exponent) {
    std::vector<double> values(array.data(), array.data() + array.size());
    const double largest = checked_largest(values);
    if (!(largest > 0.0)) throw py::value_error("weights: all are zero, none can be drawn");
    const WithoutGil released;
    weights_ = std::make_unique<Weights>(std::move(values), largest, exponent);
  }

  const Weights& weights() const { return *weights_; }

  void draw(std::uint64_t seed, std::uint64_t epoch, std::uint64_t start, bool by_epoch,
            const py::object& out) {
    const IndexTarget target(out, {"out"});
    const std::uint64_t key = weighted_key(seed, epoch, by_epoch);
    if (!target.place().on_host() && weights_->changed()) {  // a tree, which is the host's
      return send(target,
                  [&](std::int64_t* rows) { weights_->draw(key, start, target.count(), rows); });
    }
    const AliasColumn* table = target.place().on_host() ? nullptr : table_on(target);
    target.run(
        [&](std::int64_t* data, std::int64_t count) { weights_->draw(key, start, count, data); },
        [&](const CudaApi& api, void* stream, std::int64_t* data, std::int64_t count) {
          return api.alias_draws(target.place().device, stream, table,
                                 static_cast<std::uint64_t>(weights_->n()), key, start, data,
                                 count);
        });
  }

  void draw_distinct(std::uint64_t seed, std::uint64_t epoch, bool by_epoch,
                     const py::object& out) const {
    const IndexTarget target(out, {"out"});
    const std::uint64_t key = distinct_key(seed, epoch, by_epoch);
    if (!target.place().on_host()) {
      return send(target, [&](std::int64_t* rows) { draw_or_throw(key, target.count(), rows); });
    }
    target.fill([&](std::int64_t* rows, std::int64_t count) { draw_or_throw(key, count, rows); });
  }

  void update(const IndexArray& indices, const WeightArray& values) {
    const std::int64_t count = indices.size();
    const std::vector<double> weights(values.data(), values.data() + values.size());
    checked_largest(weights);
    const bool inside = first_outside(indices.data(), count, weights_->n()) < 0;
    if (!inside || count != values.size()) {
      throw py::value_error("indices: expected one row for each weight");
    }
    if (!weights_->update(indices.data(), weights.data(), count)) {
      throw py::value_error("weights: no positive weight would be left");
    }
    tables_.clear();
  }

 private:
  static_assert(sizeof(AliasColumn) == 2 * sizeof(std::int64_t));

  void draw_or_throw(std::uint64_t key, std::int64_t k, std::int64_t* rows) const {
    if (weights_->draw_distinct(key, k, rows)) return;
    throw std::invalid_argument("n: expected at most as many rows as there are positive weights");
  }

  // Draws here, and sends the rows to a device.
  template <class Draw>
  static void send(const IndexTarget& target, const Draw& draw) {
    std::vector<std::int64_t> rows(static_cast<std::size_t>(target.count()));
    without_gil(target.count(), [&] { draw(rows.data()); });
    target.launch([&](const CudaApi& api, void* stream) {
      return api.send_indices(target.place().device, stream, rows.data(), target.data(),
                              target.count());
    });
  }

  // The alias table on the device of a target, put there at the first need.
  const AliasColumn* table_on(const IndexTarget& target) {
    const Place& place = target.place();
    const auto found = tables_.find(place.device);
    if (found != tables_.end()) return static_cast<const AliasColumn*>(found->second.data);
    const std::int64_t words = 2 * weights_->n();
    const NewArray table = new_on_device(place, kDLInt64, words);
    const auto* columns = reinterpret_cast<const std::int64_t*>(weights_->columns());
    target.launch([&](const CudaApi& api, void* stream) {
      return api.send_indices(place.device, stream, columns, static_cast<std::int64_t*>(table.data),
                              words);
    });
    return static_cast<const AliasColumn*>(tables_.emplace(place.device, table).first->second.data);
  }

  std::unique_ptr<Weights> weights_;
  std::map<int, NewArray> tables_;  // by device
};

}  // namespace

void register_weights(py::module_& m) {
  using namespace py::literals;

  py::class_<HeldWeights>(m, "Weights")
      .def(py::init<const WeightArray&, std::optional<int>>(), "weights"_a.noconvert(),
           "exponent"_a)
      .def_property_readonly("positive",
                             [](const HeldWeights& held) { return held.weights().positive(); })
      .def_property_readonly("changed",
                             [](const HeldWeights& held) { return held.weights().changed(); })
      .def_property_readonly("exponent",
                             [](const HeldWeights& held) { return held.weights().exponent(); })
      .def(py::pickle(
          [](const HeldWeights& held) {
            const Weights& weights = held.weights();
            const WeightArray values(weights.n(), weights.values().data());
            return py::make_tuple(values, weights.changed()
                                              ? py::object(py::int_(weights.exponent()))
                                              : py::object(py::none()));
          },
          [](const py::tuple& state) {
            return std::make_unique<HeldWeights>(state[0].cast<WeightArray>(),
                                                 state[1].cast<std::optional<int>>());
          }))
      .def("values",
           [](const HeldWeights& held) {
             return WeightArray(held.weights().n(), held.weights().values().data());
           })
      .def(
          "importance",
          [](const HeldWeights& held, const IndexArray& rows, WeightArray& out) {
            if (rows.size() != out.size() ||
                first_outside(rows.data(), rows.size(), held.weights().n()) >= 0) {
              throw py::value_error("rows: expected one for each place of out, inside the weights");
            }
            held.weights().importance(rows.data(), rows.size(), out.mutable_data());
          },
          "rows"_a.noconvert(), "out"_a.noconvert())
      .def("update", &HeldWeights::update, "indices"_a.noconvert(), "weights"_a.noconvert())
      .def("draw", &HeldWeights::draw, "seed"_a, "epoch"_a, "start"_a, "by_epoch"_a, "out"_a)
      .def("draw_distinct", &HeldWeights::draw_distinct, "seed"_a, "epoch"_a, "by_epoch"_a,
           "out"_a);
}

}  // namespace subgrad
