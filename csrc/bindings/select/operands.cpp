#include "bindings/select/operands.h"

#include <limits>
#include <string>

#include "bindings/border/extents.h"
#include "bindings/cuda/backend.h"
#include "bindings/select/amounts.h"

namespace subgrad {
namespace {

py::object row_major_copy(const py::object& array, Source source) {
  if (is_torch(source)) return array.attr("detach")().attr("contiguous")();
  const py::module_ numpy = py::module_::import("numpy");
  const py::object mine =
      source == Source::numpy ? array : py::object(numpy.attr("from_dlpack")(array));
  return numpy.attr("require")(mine, py::none(), "CA");
}

}  // namespace

SelectOperands::SelectOperands(const py::object& arrays, bool together) : together_(together) {
  const ArrayList list = array_list(arrays, "x");
  for (std::size_t i = 0; i < list.items.size(); ++i) {
    const Where where = list.where("x", i);
    const ArrayView view = view_array(list.items[i], where, Memory::any);
    if (i == 0) place_ = Place(view);
    if (view.device != place_.device) {
      throw py::value_error(where.text() + ": expected memory on " + device_text(place_.device) +
                            " like " + wheres_[0].text() + ", got " + device_text(view.device));
    }
    if (!place_.on_host()) require_cuda(place_, where);
    wheres_.push_back(where);
    sources_.push_back(view.source);
    spans_.push_back({view.data, view.dtype, view.size()});
  }
  given_ = arrays_ = list.items;
  if (together) refuse_mixed(spans_, wheres_);
}

std::int64_t SelectOperands::elements() const { return subgrad::elements(spans_); }

void SelectOperands::require_k(std::int64_t k, std::int64_t least) const {
  if (together_) return subgrad::require_k(k, least, elements(), "all arrays");
  for (std::size_t i = 0; i < spans_.size(); ++i) {
    subgrad::require_k(k, least, spans_[i].n, wheres_[i].text());
  }
}

void SelectOperands::require_int32() const {
  for (std::size_t i = 0; i < spans_.size(); ++i) {
    if (spans_[i].n - 1 <= std::numeric_limits<std::int32_t>::max()) continue;
    throw py::value_error("index_dtype: int32 cannot number the " + std::to_string(spans_[i].n) +
                          " elements of " + wheres_[i].text());
  }
}

std::vector<std::vector<Span>> SelectOperands::scopes() {
  for (std::size_t i = 0; i < arrays_.size(); ++i) {
    const ArrayView view = view_array(arrays_[i], wheres_[i], Memory::any);
    if (view.size() == 0 || Extents(view).row_major()) continue;
    if (!place_.on_host() && !has_version(arrays_[i])) refuse_strides(wheres_[i], place_.device);
    arrays_[i] = row_major_copy(arrays_[i], sources_[i]);
    spans_[i].data = view_array(arrays_[i], wheres_[i], Memory::any).data;
  }
  if (together_) return {spans_};
  std::vector<std::vector<Span>> each;
  for (const Span& span : spans_) each.push_back({span});
  return each;
}

}  // namespace subgrad
