// The thresholded step's door.
#include <pybind11/stl.h>

#include <string>

#include "bindings/border/registrars.h"
#include "bindings/threshold/call.h"

namespace subgrad {
namespace {

Choice make_choice(const std::string& kind, std::optional<double> threshold,
                   std::optional<double> density, std::optional<std::int64_t> k) {
  const bool reused = kind == "reused";
  if (kind == "absolute") return {Selector::Kind::absolute, false, threshold, density, k};
  if (kind == "exact") return {Selector::Kind::exact, false, threshold, density, k};
  if (kind == "sampled" || reused) return {Selector::Kind::sampled, reused, threshold, density, k};
  throw py::value_error("kind: expected 'absolute', 'exact', 'sampled' or 'reused', got '" + kind +
                        "'");
}

// (counted, offset, steps) of each array, and what adds an array of int64 up in place.
using PeersPart = std::tuple<bool, std::int64_t, std::vector<std::vector<std::int64_t>>>;

Peers make_peers(const std::vector<PeersPart>& parts, std::int64_t elements,
                 const py::object& add_up) {
  Peers peers;
  for (const auto& [counted, offset, steps] : parts)
    peers.parts.push_back({counted, offset, steps});
  peers.elements = elements;
  peers.add_up = [add_up](std::vector<std::int64_t>& counts) {
    const py::gil_scoped_acquire acquired;
    // A view, since None owns it: the sums come back in place.
    const py::array_t<std::int64_t> array(static_cast<py::ssize_t>(counts.size()), counts.data(),
                                          py::none());
    add_up(array);
  };
  return peers;
}

}  // namespace

void register_threshold(py::module_& m) {
  using namespace py::literals;

  py::class_<Choice>(m, "Choice")
      .def(py::init(&make_choice), "kind"_a, "threshold"_a, "density"_a, "k"_a);

  py::class_<Peers>(m, "Peers").def(py::init(&make_peers), "parts"_a, "elements"_a, "add_up"_a);

  py::class_<PlaceReport>(m, "PlaceReport")
      .def_readonly("on_host", &PlaceReport::on_host)
      .def_readonly("kept", &PlaceReport::kept)
      .def_readonly("thresholds", &PlaceReport::thresholds)
      .def_readonly("energies", &PlaceReport::energies);
  py::class_<ThresholdReport::Member>(m, "Member")
      .def_readonly("place", &ThresholdReport::Member::place)
      .def_readonly("tensor", &ThresholdReport::Member::tensor)
      .def_readonly("scope", &ThresholdReport::Member::scope);
  py::class_<ThresholdReport>(m, "Report")
      .def_readonly("places", &ThresholdReport::places)
      .def_readonly("members", &ThresholdReport::members)
      .def_readonly("sizes", &ThresholdReport::sizes)
      .def_readonly("selections", &ThresholdReport::selections)
      .def_readonly("grad_norm", &ThresholdReport::grad_norm)
      .def_readonly("following", &ThresholdReport::following);

  py::class_<ThresholdCall>(m, "Call")
      .def(py::init<int, bool, const GivenOptions*>(), "index_bytes"_a, "measure"_a,
           "clip"_a = py::none())
      .def("add", &ThresholdCall::add, "params"_a, "grads"_a, "residuals"_a, "momentum_buffers"_a,
           "hyper"_a, py::kw_only(), "lr"_a = py::none(), "momentum_correction"_a,
           "momentum_masking"_a, "choice"_a, "together"_a, "first"_a, "fresh"_a, "last"_a,
           "peers"_a = py::none())
      .def("squares", &ThresholdCall::squares)
      .def("run", &ThresholdCall::run, py::kw_only(), "threshold"_a = py::none(),
           "capacity"_a = py::none(), "announced"_a = py::none(),
           "then"_a = std::vector<std::tuple<py::dict, py::str, py::object>>(),
           "memories"_a = std::vector<std::vector<py::dict>>(), "thresholds"_a = py::none(),
           "squares"_a = py::none());
}

}  // namespace subgrad
