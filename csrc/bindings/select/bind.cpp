// Selection by magnitude.
#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include <limits>
#include <optional>

#include "bindings/border/arrays.h"
#include "bindings/border/extents.h"
#include "bindings/registrars.h"
#include "bindings/sampling/keys.h"
#include "bindings/select/amounts.h"
#include "cpu/select/select.h"

namespace subgrad {
namespace {

py::object row_major_copy(const py::object& array, const ArrayView& view) {
  if (is_torch(view.source)) return array.attr("detach")().attr("contiguous")();
  const py::module_ numpy = py::module_::import("numpy");
  const py::object source =
      view.source == Source::numpy ? array : py::object(numpy.attr("from_dlpack")(array));
  return numpy.attr("require")(source, py::none(), "CA");
}

// The arrays of one call. `together`: they are ranked as one, otherwise each on its own.
class Operands {
 public:
  Operands(const py::object& arrays, bool together) : together_(together) {
    const ArrayList list = array_list(arrays, "x");
    for (std::size_t i = 0; i < list.items.size(); ++i) {
      const Where where = list.where("x", i);
      const ArrayView view = view_array(list.items[i], where);
      arrays_.push_back(list.items[i]);
      wheres_.push_back(where);
      spans_.push_back({view.data, view.dtype, view.size()});
    }
    if (together) refuse_mixed(spans_, wheres_);
  }

  std::int64_t size() const { return elements(spans_); }

  void require_k(std::int64_t k, std::int64_t least) const {
    if (together_) return subgrad::require_k(k, least, size(), "all arrays");
    for (std::size_t i = 0; i < spans_.size(); ++i) {
      subgrad::require_k(k, least, spans_[i].n, wheres_[i].text());
    }
  }

  void require_int32() const {
    for (std::size_t i = 0; i < spans_.size(); ++i) {
      if (spans_[i].n - 1 <= std::numeric_limits<std::int32_t>::max()) continue;
      throw py::value_error("index_dtype: int32 cannot number the " + std::to_string(spans_[i].n) +
                            " elements of " + wheres_[i].text());
    }
  }

  // What is ranked together, in row-major order; arrays that lie otherwise are copied, and live as
  // long as this does. Call it when all arguments have been checked.
  std::vector<std::vector<Span>> scopes() {
    for (std::size_t i = 0; i < arrays_.size(); ++i) {
      const ArrayView view = view_array(arrays_[i], wheres_[i]);
      if (view.size() == 0 || Extents(view).row_major()) continue;
      arrays_[i] = row_major_copy(arrays_[i], view);
      spans_[i].data = view_array(arrays_[i], wheres_[i]).data;
    }
    if (together_) return {spans_};
    std::vector<std::vector<Span>> each;
    for (const Span& span : spans_) each.push_back({span});
    return each;
  }

 private:
  bool together_;
  std::vector<py::object> arrays_;
  std::vector<Where> wheres_;
  std::vector<Span> spans_;
};

py::array own(LargeArray<char> memory, const char* dtype, std::int64_t count) {
  char* data = memory.get();
  const py::capsule owner(memory.release(), [](void* p) { FreeMemory()(p); });
  return py::array(py::dtype(dtype), {count}, {}, data, owner);
}

const char* bits_dtype(DType t) { return t == DType::f64 ? "u8" : t == DType::f32 ? "u4" : "u2"; }

// One of `threshold`, `density` and `k` is given. A list of (indices, bits of the values, smallest
// magnitude kept), one an array.
py::list select(const py::object& x, std::optional<double> threshold, std::optional<double> density,
                std::optional<std::int64_t> k, bool together, bool narrow) {
  Operands operands(x, together);
  if (k.has_value()) operands.require_k(*k, 0);
  if (narrow) operands.require_int32();
  const auto scopes = operands.scopes();

  const IndexType type = narrow ? IndexType::i32 : IndexType::i64;
  std::vector<Selection> selections;
  without_gil(operands.size(), [&] {
    for (const auto& spans : scopes) {
      if (threshold.has_value()) {
        selections.push_back(select_above(spans, *threshold, type));
      } else {
        selections.push_back(
            select_top(spans, k.has_value() ? *k : k_of(*density, elements(spans)), type));
      }
    }
  });

  py::list parts;
  for (std::size_t i = 0; i < scopes.size(); ++i) {
    const double smallest = magnitude_of(selections[i].cut.key, scopes[i]);
    for (std::size_t j = 0; j < scopes[i].size(); ++j) {
      Selected& s = selections[i].spans[j];
      parts.append(py::make_tuple(own(std::move(s.indices), narrow ? "i4" : "i8", s.count),
                                  own(std::move(s.values), bits_dtype(scopes[i][j].dtype), s.count),
                                  smallest));
    }
  }
  return parts;
}

std::vector<double> kth_magnitudes(const py::object& x, std::int64_t k, bool together) {
  Operands operands(x, together);
  operands.require_k(k, 1);
  const auto scopes = operands.scopes();
  std::vector<double> magnitudes;
  without_gil(operands.size(), [&] {
    for (const auto& spans : scopes) {
      magnitudes.push_back(magnitude_of(kth_magnitude(spans, k).key, spans));
    }
  });
  return magnitudes;
}

}  // namespace

void register_select(py::module_& m) {
  using namespace py::literals;

  m.def("select", &select, "x"_a, "threshold"_a, "density"_a, "k"_a, "together"_a, "narrow"_a);
  m.def("count_of", &k_of, "density"_a, "n"_a);
  m.def("kth_magnitudes", &kth_magnitudes, "x"_a, "k"_a, "together"_a);
  m.def(
      "energy",
      [](const py::object& x, std::int64_t k) {
        Operands operands(x, true);
        operands.require_k(k, 0);
        const auto spans = operands.scopes()[0];
        const Energy e = energy(spans, kth_magnitude(spans, k));
        return py::make_tuple(e.kept, e.rest);
      },
      "x"_a, "k"_a);
}

}  // namespace subgrad
