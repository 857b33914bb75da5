// What only tests and tools ask for: the tables of rules/.
#include <pybind11/stl.h>

#include <tuple>
#include <vector>

#include "bindings/registrars.h"
#include "rules/table.h"

namespace py = pybind11;

namespace subgrad {
namespace {

std::vector<std::tuple<const char*, const char*, const char*>> dense_types() {
  std::vector<std::tuple<const char*, const char*, const char*>> rows;
  for (const DenseTypes& t : kDenseTypes) {
    rows.emplace_back(name_of(t.param), name_of(t.grad), name_of(t.momentum));
  }
  return rows;
}

std::vector<std::tuple<const char*, const char*, bool, const char*>> sgd_rules() {
  constexpr const char* decays[] = {"none", "coupled", "decoupled"};
  constexpr const char* buffers[] = {"none", "set", "accumulate"};
  constexpr const char* proxes[] = {"none", "l1"};
  std::vector<std::tuple<const char*, const char*, bool, const char*>> rows;
  for (const SgdRow& r : kSgdRows) {
    rows.emplace_back(decays[int(r.decay)], buffers[int(r.buffer)], r.nesterov,
                      proxes[int(r.prox)]);
  }
  return rows;
}

}  // namespace

void register_testing(py::module_& m) {
  m.def("dense_types", &dense_types);
  m.def("sgd_rules", &sgd_rules);
}

}  // namespace subgrad
