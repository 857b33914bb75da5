// A history of rows as Python holds it.
#pragma once

#include <pybind11/numpy.h>

#include <cstdint>
#include <list>
#include <optional>
#include <vector>

#include "bindings/border/extents.h"
#include "bindings/border/turns.h"
#include "cpu/rows/history.h"

namespace subgrad {

using RowNumbers = py::array_t<std::int64_t, py::array::c_style>;

struct GivenHistory {
  RowHistory history;
  Turns turns;

  explicit GivenHistory(std::int64_t rows) : history(rows) {}
  GivenHistory(std::int64_t rows, std::uint32_t most_steps) : history(rows, most_steps) {}
};

// Throws ValueError if the history is not one of so many rows.
void require_rows(const GivenHistory& given, std::int64_t rows, const Where& where);

// The turns of all, in an order that is the same for everybody, so that nobody waits in a ring.
class HistoryTurns {
 public:
  explicit HistoryTurns(std::vector<GivenHistory*> histories);

 private:
  std::list<Turn> turns_;
};

// Rows take what they lack: those numbered, or all. Whether any array was written.
bool catch_up(GivenHistory& given, const py::object& param, const py::object& momentum,
              const std::optional<RowNumbers>& rows);

}  // namespace subgrad
