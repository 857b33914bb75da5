// Orders of rows, uniform draws and draws within classes. Arguments have been checked by sampling/.
#include <vector>

#include "bindings/registrars.h"
#include "bindings/sampling/keys.h"
#include "core/philox.h"
#include "cpu/kernel_table.h"
#include "cpu/sampling/draws.h"
#include "cpu/sampling/order.h"

namespace subgrad {
namespace {

using StartArray = py::array_t<std::uint64_t, py::array::c_style>;

StartArray starts_array(const Strata& strata) {
  return StartArray(static_cast<py::ssize_t>(strata.starts().size()), strata.starts().data());
}

py::array_t<std::uint64_t> random_words(std::uint64_t key, std::uint64_t low, std::uint64_t high,
                                        std::int64_t blocks) {
  py::array_t<std::uint64_t> words(2 * blocks);
  kernels().philox(key, low, high, blocks, words.mutable_data());
  return words;
}

void order_range(const Order& order, std::int64_t start, std::int64_t step, IndexArray& out) {
  std::int64_t* data = out.mutable_data();
  const std::int64_t count = out.size();
  without_gil(count, [&] { order.range(start, step, count, data); });
}

void choose_into(std::uint64_t n, std::uint64_t seed, std::uint64_t draw, IndexArray& out) {
  std::int64_t* data = out.mutable_data();
  const std::int64_t count = out.size();
  without_gil(count, [&] { choose(n, choose_key(seed, draw), 0, count, data); });
}

}  // namespace

void register_sampling(py::module_& m) {
  using namespace py::literals;

  m.def("random_words", &random_words, "key"_a, "low"_a, "high"_a, "blocks"_a);
  m.def("choose", &choose_into, "n"_a, "seed"_a, "draw"_a, "out"_a.noconvert());
  m.def(
      "uniform_draws",
      [](std::uint64_t n, std::uint64_t seed, std::uint64_t epoch, std::uint64_t start,
         IndexArray& out) {
        std::int64_t* data = out.mutable_data();
        const std::int64_t count = out.size();
        const std::uint64_t key = uniform_key(seed, epoch);
        without_gil(count, [&] { uniform_draws(key, start, count, n, data); });
      },
      "n"_a, "seed"_a, "epoch"_a, "start"_a, "out"_a.noconvert());

  py::class_<Order>(m, "Order")
      .def(py::init([](std::uint64_t n, std::uint64_t seed, std::uint64_t epoch, bool reverse_pairs,
                       std::uint64_t block_size, std::uint64_t window) {
             return Order({n, seed, epoch, reverse_pairs, block_size, window});
           }),
           "n"_a, "seed"_a, "epoch"_a, "reverse_pairs"_a, "block_size"_a, "window"_a)
      .def("range", &order_range, "start"_a, "step"_a, "out"_a.noconvert())
      .def(
          "indices",
          [](const Order& order, IndexArray& values) {
            std::int64_t* data = values.mutable_data();
            const std::int64_t count = values.size();
            without_gil(count, [&] { order.indices(data, count); });
          },
          "values"_a.noconvert())
      .def(
          "positions",
          [](const Order& order, IndexArray& values) {
            std::int64_t* data = values.mutable_data();
            const std::int64_t count = values.size();
            without_gil(count, [&] { order.positions(data, count); });
          },
          "values"_a.noconvert())
      .def("index_at",
           [](const Order& order, std::int64_t value) {
             order.indices(&value, 1);
             return value;
           })
      .def("position_of", [](const Order& order, std::int64_t value) {
        order.positions(&value, 1);
        return value;
      });

  py::class_<Strata>(m, "Strata")
      .def(py::init([](const StartArray& starts) {
             return Strata({starts.data(), starts.data() + starts.size()});
           }),
           "starts"_a.noconvert())
      .def(py::pickle([](const Strata& strata) { return py::make_tuple(starts_array(strata)); },
                      [](const py::tuple& state) {
                        const auto starts = state[0].cast<StartArray>();
                        return Strata({starts.data(), starts.data() + starts.size()});
                      }))
      .def(
          "turns",
          [](const Strata& strata, std::uint64_t seed, std::uint64_t epoch,
             const IndexArray& classes, const IndexArray& turns, IndexArray& out) {
            const std::int64_t *c = classes.data(), *t = turns.data();
            std::int64_t* data = out.mutable_data();
            const std::int64_t count = out.size();
            const std::uint64_t key = epoch_key(seed, epoch, Purpose::strata);
            without_gil(count, [&] { strata.turns(key, c, t, count, data); });
          },
          "seed"_a, "epoch"_a, "classes"_a.noconvert(), "turns"_a.noconvert(), "out"_a.noconvert())
      .def(
          "members",
          [](const Strata& strata, std::uint64_t seed, std::uint64_t epoch, std::uint64_t start,
             const IndexArray& classes, IndexArray& out) {
            const std::int64_t* c = classes.data();
            std::int64_t* data = out.mutable_data();
            const std::int64_t count = out.size();
            const std::uint64_t key = epoch_key(seed, epoch, Purpose::weighted);
            without_gil(count, [&] { strata.members(key, start, c, count, data); });
          },
          "seed"_a, "epoch"_a, "start"_a, "classes"_a.noconvert(), "out"_a.noconvert())
      .def(
          "groups",
          [](const Strata& strata, std::uint64_t seed, std::uint64_t epoch,
             const IndexArray& listed, std::uint64_t first, std::int64_t per_batch,
             std::int64_t per_class, IndexArray& out) {
            std::int64_t* data = out.mutable_data();
            const std::int64_t batches = out.size() / (per_batch * per_class);
            const std::uint64_t key = epoch_key(seed, epoch, Purpose::group);
            const std::vector<std::int64_t> classes(listed.data(), listed.data() + listed.size());
            without_gil(out.size(), [&] {
              strata.groups(key, classes, first, batches, per_batch, per_class, data);
            });
          },
          "seed"_a, "epoch"_a, "listed"_a.noconvert(), "first"_a, "per_batch"_a, "per_class"_a,
          "out"_a.noconvert());
}

}  // namespace subgrad
