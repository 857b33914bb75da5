#include "bindings/threshold/arguments.h"

#include <limits>
#include <string>

namespace subgrad {

void check_scopes(const ThresholdPlan& plan, const std::vector<Placement>& placements,
                  std::size_t scopes) {
  if (placements.size() != plan.size()) throw py::value_error("placements: not one for each param");
  std::vector<std::ptrdiff_t> first(scopes, -1);
  for (std::size_t i = 0; i < plan.size(); ++i) {
    std::ptrdiff_t& f = first[placements[i].scope];
    if (f < 0) f = static_cast<std::ptrdiff_t>(i);
    const auto other = static_cast<std::size_t>(f);
    if (plan.type(other) != plan.type(i)) {
      throw py::type_error("scope: " + plan.where(other).text() + " is computed in " +
                           name_of(plan.type(other)) + " and " + plan.where(i).text() + " in " +
                           name_of(plan.type(i)) + "; one threshold needs one type");
    }
  }
}

std::vector<ThresholdSegment> segments_of(const ThresholdPlan& plan,
                                          const std::vector<ThresholdParams>& rows,
                                          const std::vector<Placement>& placements,
                                          int index_bytes) {
  std::vector<ThresholdSegment> segments;
  for (std::size_t i = 0; i < plan.size(); ++i) {
    const Placement& place = placements[i];
    const bool use_momentum = rows[place.row].sgd.momentum != 0.0;
    if (use_momentum && !plan.has_momentum(i)) {
      throw py::value_error(plan.where(i).text() +
                            ": has no entry in momentum_buffers, and momentum is not 0");
    }
    if (index_bytes == 4 && plan.elements(i) > std::numeric_limits<std::int32_t>::max()) {
      throw py::value_error("emit: " + plan.where(i).text() + " has " +
                            std::to_string(plan.elements(i)) +
                            " elements, more than 'int32' can index");
    }
    ThresholdSegment s = plan.segment(i, use_momentum);
    s.row = place.row;
    s.scope = place.scope;
    s.first = place.first;
    s.fresh = place.fresh;
    segments.push_back(s);
  }
  return segments;
}

}  // namespace subgrad
