#include "bindings/rows/history.h"

#include <pybind11/numpy.h>

#include <algorithm>
#include <functional>
#include <string>

#include "bindings/border/gil.h"
#include "bindings/rows/tables.h"
#include "cpu/loading/gather.h"

namespace subgrad {

void require_rows(const GivenHistory& given, std::int64_t rows, const Where& where) {
  if (given.history.rows() == rows) return;
  throw py::value_error(where.text() + ": of " + std::to_string(given.history.rows()) +
                        " rows, and the parameter has " + std::to_string(rows));
}

HistoryTurns::HistoryTurns(std::vector<GivenHistory*> histories) {
  std::sort(histories.begin(), histories.end(), std::less<>());
  for (GivenHistory* given : histories) turns_.emplace_back(given->turns);
}

namespace {

void require_inside(const std::vector<std::int64_t>& numbers, std::int64_t rows) {
  const std::int64_t at =
      first_outside(numbers.data(), static_cast<std::int64_t>(numbers.size()), rows);
  if (at < 0) return;
  throw py::value_error("rows: row " + std::to_string(numbers[static_cast<std::size_t>(at)]) +
                        " at position " + std::to_string(at) + " is outside the " +
                        std::to_string(rows) + " rows of param");
}

}  // namespace

bool catch_up(GivenHistory& given, const py::object& param, const py::object& momentum,
              const std::optional<RowNumbers>& rows) {
  RowTables tables;
  tables.add_param(param, {"param", -1});
  if (!momentum.is_none()) tables.add_momentum(momentum, {"momentum_buffer", -1});
  tables.plan().seal();
  const std::int64_t count = tables.plan().param(0).shape[0];
  require_rows(given, count, {"param", -1});
  std::vector<std::int64_t> numbers;
  if (rows) {
    numbers.assign(rows->data(), rows->data() + rows->size());
    require_inside(numbers, count);
  }
  const Turn turn(given.turns);
  RowHistory& history = given.history;
  if (momentum.is_none() && history.has_momentum()) {
    throw py::value_error("momentum_buffer: needed, since rows lack steps that move it");
  }
  const auto n = static_cast<std::int64_t>(numbers.size());
  if (!history.pending() || (rows && history.first_lacking(numbers.data(), n) < 0)) return false;
  tables.announce();
  const RowMemory memory = memory_of(tables.segments()[0]);
  const WithoutGil released;
  if (rows) {
    history.catch_up(memory, numbers.data(), n);
  } else {
    history.catch_up(memory);
  }
  return true;
}

}  // namespace subgrad
