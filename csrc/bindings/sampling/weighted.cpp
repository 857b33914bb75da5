// Weighted draws.
#include <pybind11/stl.h>

#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "bindings/registrars.h"
#include "bindings/sampling/keys.h"
#include "cpu/sampling/weights.h"

namespace subgrad {
namespace {

double checked_largest(const double* weights, std::int64_t n) {
  WeightCheck check;
  without_gil(n, [&] { check = check_weights(weights, n); });
  if (check.bad >= 0) {
    char value[32];
    std::snprintf(value, sizeof value, "%g", weights[check.bad]);
    throw py::value_error("weights[" + std::to_string(check.bad) +
                          "]: expected a finite number >= 0, got " + value);
  }
  return check.largest;
}

std::unique_ptr<Weights> make_weights(const WeightArray& array, std::optional<int> exponent) {
  const double* data = array.data();
  const std::int64_t n = array.size();
  const double largest = checked_largest(data, n);
  if (!(largest > 0.0)) throw py::value_error("weights: all are zero, none can be drawn");
  py::gil_scoped_release release;
  std::vector<double> values(data, data + n);
  if (exponent.has_value()) {
    return std::make_unique<Weights>(std::move(values), largest, *exponent);
  }
  return std::make_unique<Weights>(std::move(values), largest);
}

void update(Weights& weights, const IndexArray& indices, const WeightArray& values) {
  const std::int64_t count = indices.size();
  const double largest = checked_largest(values.data(), count);
  if (!weights.update(indices.data(), values.data(), count, largest)) {
    throw py::value_error("weights: no positive weight would be left");
  }
}

}  // namespace

void register_weighted(py::module_& m) {
  using namespace py::literals;

  py::class_<Weights>(m, "Weights")
      .def(py::init(&make_weights), "weights"_a.noconvert(), "exponent"_a)
      .def_property_readonly("positive", &Weights::positive)
      .def_property_readonly("total", &Weights::total)
      .def_property_readonly("changed", &Weights::changed)
      .def_property_readonly("exponent", &Weights::exponent)
      .def(py::pickle(
          [](const Weights& weights) {
            const WeightArray values(weights.n(), weights.values().data());
            return py::make_tuple(values, weights.changed()
                                              ? py::object(py::int_(weights.exponent()))
                                              : py::object(py::none()));
          },
          [](const py::tuple& state) {
            return make_weights(state[0].cast<WeightArray>(), state[1].cast<std::optional<int>>());
          }))
      .def("values",
           [](const Weights& weights) { return WeightArray(weights.n(), weights.values().data()); })
      .def(
          "values_at",
          [](const Weights& weights, const IndexArray& indices, WeightArray& out) {
            weights.values_at(indices.data(), indices.size(), out.mutable_data());
          },
          "indices"_a.noconvert(), "out"_a.noconvert())
      .def("update", &update, "indices"_a.noconvert(), "weights"_a.noconvert())
      .def(
          "draw",
          [](const Weights& weights, std::uint64_t seed, std::uint64_t epoch, std::uint64_t start,
             bool by_epoch, IndexArray& out) {
            std::int64_t* data = out.mutable_data();
            const std::int64_t count = out.size();
            const std::uint64_t key = weighted_key(seed, epoch, by_epoch);
            without_gil(count, [&] { weights.draw(key, start, count, data); });
          },
          "seed"_a, "epoch"_a, "start"_a, "by_epoch"_a, "out"_a.noconvert())
      .def(
          "draw_distinct",
          [](const Weights& weights, std::uint64_t seed, std::uint64_t epoch, bool by_epoch,
             IndexArray& out) {
            std::int64_t* data = out.mutable_data();
            const std::int64_t count = out.size();
            const std::uint64_t key = distinct_key(seed, epoch, by_epoch);
            without_gil(count, [&] { weights.draw_distinct(key, count, data); });
          },
          "seed"_a, "epoch"_a, "by_epoch"_a, "out"_a.noconvert());
}

}  // namespace subgrad
