#include "bindings/sampling/strata.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "bindings/sampling/keys.h"
#include "cpu/sampling/strata.h"

namespace subgrad {
namespace {

using StartArray = py::array_t<std::uint64_t, py::array::c_style>;

Strata strata_of(const StartArray& starts) {
  std::vector<std::uint64_t> places(starts.data(), starts.data() + starts.size());
  if (places.empty() || places[0] != 0 || !std::is_sorted(places.begin(), places.end())) {
    throw py::value_error("starts: expected ascending places from 0");
  }
  return Strata(std::move(places));
}

StartArray starts_array(const Strata& strata) {
  return StartArray(static_cast<py::ssize_t>(strata.starts().size()), strata.starts().data());
}

void require(bool fits, const char* message) {
  if (!fits) throw py::value_error(message);
}

// Each of them one that has rows.
void require_classes(const Strata& strata, const IndexArray& classes) {
  const std::vector<std::uint64_t>& starts = strata.starts();
  const auto has_rows = [&](std::int64_t c) {
    const auto place = static_cast<std::uint64_t>(c);
    return place + 1 < starts.size() && c >= 0 && starts[place] < starts[place + 1];
  };
  require(std::all_of(classes.data(), classes.data() + classes.size(), has_rows),
          "classes: expected numbers of classes that have rows");
}

// Batches, one a row, of so many classes or fewer.
void require_batches(const IndexArray& out, std::int64_t classes) {
  require(out.ndim() == 2 && out.shape(1) > 0 && out.shape(1) <= classes,
          "out: expected batches of at most all classes");
}

std::uint64_t batch_key(std::uint64_t seed, std::uint64_t epoch) {
  return epoch_key(seed, epoch, Purpose::strata, 1);
}

}  // namespace

void register_strata(py::module_& m) {
  using namespace py::literals;

  py::class_<Strata>(m, "Strata")
      .def(py::init(&strata_of), "starts"_a.noconvert())
      .def(
          py::pickle([](const Strata& strata) { return py::make_tuple(starts_array(strata)); },
                     [](const py::tuple& state) { return strata_of(state[0].cast<StartArray>()); }))
      .def(
          "turns",
          [](const Strata& strata, std::uint64_t seed, std::uint64_t epoch,
             const IndexArray& classes, const IndexArray& turns, IndexArray& out) {
            require(classes.size() == out.size() && turns.size() == out.size(),
                    "out: expected a place for every class and turn");
            require_classes(strata, classes);
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
            require(classes.size() == out.size(), "out: expected a place for every class");
            require_classes(strata, classes);
            const std::int64_t* c = classes.data();
            std::int64_t* data = out.mutable_data();
            const std::int64_t count = out.size();
            const std::uint64_t key = epoch_key(seed, epoch, Purpose::weighted);
            without_gil(count, [&] { strata.members(key, start, c, count, data); });
          },
          "seed"_a, "epoch"_a, "start"_a, "classes"_a.noconvert(), "out"_a.noconvert())
      .def(
          "groups",
          [](const Strata& strata, std::uint64_t seed, std::uint64_t epoch, std::uint64_t first,
             const IndexArray& classes, std::int64_t per_class, IndexArray& out) {
            require(classes.ndim() == 2 && per_class > 0 &&
                        out.size() / per_class == classes.size() && out.size() % per_class == 0,
                    "out: expected a place for every row of every class of every batch");
            require_classes(strata, classes);
            const std::int64_t* c = classes.data();
            std::int64_t* data = out.mutable_data();
            const std::int64_t batches = classes.shape(0), per_batch = classes.shape(1);
            const std::uint64_t key = epoch_key(seed, epoch, Purpose::group);
            without_gil(out.size(),
                        [&] { strata.groups(key, first, c, batches, per_batch, per_class, data); });
          },
          "seed"_a, "epoch"_a, "first"_a, "classes"_a.noconvert(), "per_class"_a,
          "out"_a.noconvert())
      .def(
          "spread",
          [](const Strata& strata, std::uint64_t seed, std::uint64_t epoch,
             std::uint64_t batch_size, IndexArray& out) {
            require(strata.starts().back() == static_cast<std::uint64_t>(out.size()),
                    "out: expected a place for every row");
            require(out.size() < std::int64_t{1} << 32, "labels: expected fewer than 2**32 rows");
            require(batch_size > 0, "batch_size: expected at least 1");
            std::int64_t* data = out.mutable_data();
            const std::uint64_t key = epoch_key(seed, epoch, Purpose::strata);
            without_gil(out.size(),
                        [&] { strata.spread(key, batch_key(seed, epoch), batch_size, data); });
          },
          "seed"_a, "epoch"_a, "batch_size"_a, "out"_a.noconvert());

  m.def(
      "shuffled_batches",
      [](std::uint64_t seed, std::uint64_t epoch, std::int64_t batch_size, std::int64_t start,
         IndexArray& out) {
        require(batch_size > 0 && start >= 0, "batch_size, start: expected at least 1, and 0");
        std::int64_t* data = out.mutable_data();
        const std::int64_t count = out.size();
        const std::uint64_t key = batch_key(seed, epoch);
        without_gil(count, [&] { shuffle_batches(key, batch_size, start, count, data); });
      },
      "seed"_a, "epoch"_a, "batch_size"_a, "start"_a, "out"_a.noconvert());
  m.def(
      "groups_drawn",
      [](std::uint64_t seed, std::uint64_t epoch, std::int64_t classes, std::uint64_t first,
         IndexArray& out) {
        require_batches(out, classes);
        std::int64_t* data = out.mutable_data();
        const std::int64_t batches = out.shape(0), per_batch = out.shape(1);
        const std::uint64_t key = epoch_key(seed, epoch, Purpose::group);
        without_gil(out.size(),
                    [&] { draw_groups(key, classes, first, batches, per_batch, data); });
      },
      "seed"_a, "epoch"_a, "classes"_a, "first"_a, "out"_a.noconvert());
  m.def(
      "groups_in_turn",
      [](std::uint64_t seed, std::uint64_t epoch, std::int64_t classes, IndexArray& out) {
        require_batches(out, classes);
        std::int64_t* data = out.mutable_data();
        const std::int64_t batches = out.shape(0), per_batch = out.shape(1);
        const std::uint64_t key = epoch_key(seed, epoch, Purpose::group, 1);
        without_gil(out.size(),
                    [&] { go_round(key, classes, per_batch, batches * per_batch, data); });
      },
      "seed"_a, "epoch"_a, "classes"_a, "out"_a.noconvert());
}

}  // namespace subgrad
