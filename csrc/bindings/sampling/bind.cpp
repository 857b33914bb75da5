// Orders of rows and uniform draws. Numbers have been checked by sampling/.
#include "bindings/border/registrars.h"
#include "bindings/sampling/cursor.h"
#include "bindings/sampling/keys.h"
#include "bindings/sampling/strata.h"
#include "bindings/sampling/target.h"
#include "bindings/sampling/weighted.h"
#include "cpu/sampling/draws.h"
#include "cpu/sampling/order.h"

namespace subgrad {
namespace {

void order_range(const Order& order, std::int64_t start, std::int64_t step, const py::object& out) {
  const IndexTarget target(out, {"out"});
  target.run([&](std::int64_t* data, std::int64_t n) { order.range(start, step, n, data); },
             [&](const CudaApi& api, void* stream, std::int64_t* data, std::int64_t n) {
               return api.order_range(target.place().device, stream, &order.rows(), start, step,
                                      data, n);
             });
}

void order_indices(const Order& order, const py::object& values) {
  const IndexTarget target(values, {"values"});
  target.run([&](std::int64_t* data, std::int64_t n) { order.indices(data, n); },
             [&](const CudaApi& api, void* stream, std::int64_t* data, std::int64_t n) {
               return api.order_indices(target.place().device, stream, &order.rows(), data, n);
             });
}

void order_positions(const Order& order, const py::object& values) {
  const IndexTarget target(values, {"values"});
  target.run([&](std::int64_t* data, std::int64_t n) { order.positions(data, n); },
             [&](const CudaApi& api, void* stream, std::int64_t* data, std::int64_t n) {
               return api.order_positions(target.place().device, stream, &order.rows(), data, n);
             });
}

void choose_into(std::uint64_t n, std::uint64_t seed, std::uint64_t draw, const py::object& out) {
  const IndexTarget target(out, {"out"});
  const std::uint64_t key = choose_key(seed, draw);
  target.run([&](std::int64_t* data, std::int64_t count) { choose(n, key, 0, count, data); },
             [&](const CudaApi& api, void* stream, std::int64_t* data, std::int64_t count) {
               const RowOrder order = plain_order(n, key, 0);
               return api.order_range(target.place().device, stream, &order, 0, 1, data, count);
             });
}

void draw_uniform(std::uint64_t n, std::uint64_t seed, std::uint64_t epoch, std::uint64_t start,
                  const py::object& out) {
  const IndexTarget target(out, {"out"});
  const std::uint64_t key = uniform_key(seed, epoch);
  target.run(
      [&](std::int64_t* data, std::int64_t count) { uniform_draws(key, start, count, n, data); },
      [&](const CudaApi& api, void* stream, std::int64_t* data, std::int64_t count) {
        return api.uniform_draws(target.place().device, stream, n, key, start, data, count);
      });
}

}  // namespace

void register_sampling(py::module_& m) {
  using namespace py::literals;

  m.def("check_output", [](const py::object& out) { IndexTarget(out, {"out"}); }, "out"_a);
  m.def("choose", &choose_into, "n"_a, "seed"_a, "draw"_a, "out"_a);
  m.def("uniform_draws", &draw_uniform, "n"_a, "seed"_a, "epoch"_a, "start"_a, "out"_a);

  py::class_<Order>(m, "Order")
      .def(py::init([](std::uint64_t n, std::uint64_t seed, std::uint64_t epoch, bool reverse_pairs,
                       std::uint64_t block_size, std::uint64_t window) {
             return Order({n, seed, epoch, reverse_pairs, block_size, window});
           }),
           "n"_a, "seed"_a, "epoch"_a, "reverse_pairs"_a, "block_size"_a, "window"_a)
      .def("range", &order_range, "start"_a, "step"_a, "out"_a)
      .def("indices", &order_indices, "values"_a)
      .def("positions", &order_positions, "values"_a)
      .def("index_at",
           [](const Order& order, std::int64_t value) {
             order.indices(&value, 1);
             return value;
           })
      .def("position_of", [](const Order& order, std::int64_t value) {
        order.positions(&value, 1);
        return value;
      });

  register_strata(m);
  register_cursor(m);
  register_weights(m);
}

}  // namespace subgrad
