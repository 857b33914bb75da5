// Selection by magnitude.
#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include <cmath>
#include <limits>
#include <optional>

#include "bindings/arrays.h"
#include "bindings/registrars.h"
#include "bindings/samples.h"
#include "cpu/select.h"

namespace subgrad {
namespace {

// The elements of arrays in row-major order: where they lie, or in a copy if they are strided.
struct Rows {
  std::vector<py::object> owners;
  std::vector<Span> spans;
  std::vector<Where> wheres;
};

bool row_major(const ArrayView& view) {
  if (reinterpret_cast<std::uintptr_t>(view.data) % size_of(view.dtype) != 0) return false;
  std::int64_t stride = view.itemsize();
  for (int d = view.ndim; d-- > 0; stride *= view.shape[d]) {
    if (view.shape[d] != 1 && view.strides[d] * view.stride_unit != stride) return false;
  }
  return true;
}

py::object row_major_copy(const py::object& array, const ArrayView& view) {
  if (is_torch(view.source)) return array.attr("detach")().attr("contiguous")();
  const py::module_ numpy = py::module_::import("numpy");
  const py::object source =
      view.source == Source::numpy ? array : py::object(numpy.attr("from_dlpack")(array));
  return numpy.attr("require")(source, py::none(), "CA");
}

Rows rows_of(const py::object& arrays, const char* name) {
  const ArrayList list = array_list(arrays, name);
  Rows rows;
  for (std::size_t i = 0; i < list.items.size(); ++i) {
    const Where where = list.where(name, i);
    py::object owner = list.items[i];
    ArrayView view = view_array(owner, where);
    if (view.size() > 0 && !row_major(view)) {
      owner = row_major_copy(owner, view);
      view = view_array(owner, where);
    }
    rows.owners.push_back(owner);
    rows.spans.push_back({view.data, view.dtype, view.size()});
    rows.wheres.push_back(where);
  }
  return rows;
}

// The groups that are ranked together: all arrays, or each on its own.
std::vector<std::vector<Span>> scopes_of(const Rows& rows, bool together) {
  if (!together) {
    std::vector<std::vector<Span>> scopes;
    for (const Span& span : rows.spans) scopes.push_back({span});
    return scopes;
  }
  for (std::size_t i = 1; i < rows.spans.size(); ++i) {
    const DType first = rows.spans[0].dtype, other = rows.spans[i].dtype;
    if ((first == DType::f64) != (other == DType::f64)) {
      throw py::type_error(rows.wheres[i].text() + ": " + name_of(other) +
                           " cannot be ranked together with " + name_of(first) + " of " +
                           rows.wheres[0].text());
    }
  }
  return {rows.spans};
}

void require_k(std::int64_t k, std::int64_t least, std::int64_t n, const std::string& whose) {
  if (k >= least && k <= n) return;
  throw py::value_error("k: expected " + std::to_string(least) + " to " + std::to_string(n) +
                        ", the elements of " + whose + ", got " + std::to_string(k));
}

// Half is rounded up, and of something at least one is kept.
std::int64_t k_of(double density, std::int64_t n) {
  if (density == 0.0) return 0;
  const auto k = static_cast<std::int64_t>(std::floor(density * static_cast<double>(n) + 0.5));
  return std::clamp<std::int64_t>(k, std::min<std::int64_t>(n, 1), n);
}

py::array own(LargeArray<char> memory, const char* dtype, std::int64_t count) {
  char* data = memory.get();
  const py::capsule owner(memory.release(), [](void* p) { FreeMemory()(p); });
  return py::array(py::dtype(dtype), {count}, {}, data, owner);
}

const char* raw_dtype(DType t) { return t == DType::f64 ? "u8" : t == DType::f32 ? "u4" : "u2"; }

// One of `threshold`, `density` and `k` is given. A list of (indices, bits of the values, smallest
// magnitude kept), one an array.
py::list select(const py::object& x, std::optional<double> threshold, std::optional<double> density,
                std::optional<std::int64_t> k, bool together, bool narrow) {
  const Rows rows = rows_of(x, "x");
  const auto scopes = scopes_of(rows, together);
  std::int64_t all = 0;
  for (std::size_t i = 0; i < rows.spans.size(); ++i) {
    const std::int64_t n = rows.spans[i].n;
    all += n;
    if (narrow && n - 1 > std::numeric_limits<std::int32_t>::max()) {
      throw py::value_error("index_dtype: int32 cannot number the " + std::to_string(n) +
                            " elements of " + rows.wheres[i].text());
    }
    if (k.has_value() && !together) require_k(*k, 0, n, rows.wheres[i].text());
  }
  if (k.has_value() && together) require_k(*k, 0, all, "all arrays");

  const IndexType type = narrow ? IndexType::i32 : IndexType::i64;
  std::vector<Selection> selections(scopes.size());
  without_gil(all, [&] {
    for (std::size_t i = 0; i < scopes.size(); ++i) {
      selections[i] =
          threshold.has_value()
              ? select_above(scopes[i], *threshold, type)
              : select_top(scopes[i], k.has_value() ? *k : k_of(*density, elements(scopes[i])),
                           type);
    }
  });

  py::list parts;
  for (std::size_t i = 0; i < selections.size(); ++i) {
    const double kept = magnitude_of(selections[i].cut.key, scopes[i]);
    for (std::size_t j = 0; j < selections[i].spans.size(); ++j) {
      Selected& s = selections[i].spans[j];
      parts.append(py::make_tuple(own(std::move(s.indices), narrow ? "i4" : "i8", s.count),
                                  own(std::move(s.values), raw_dtype(scopes[i][j].dtype), s.count),
                                  kept));
    }
  }
  return parts;
}

std::vector<double> kth_magnitudes(const py::object& x, std::int64_t k, bool together) {
  const Rows rows = rows_of(x, "x");
  const auto scopes = scopes_of(rows, together);
  std::int64_t all = 0;
  for (std::size_t i = 0; i < scopes.size(); ++i) {
    const std::int64_t n = elements(scopes[i]);
    all += n;
    require_k(k, 1, n, together ? "all arrays" : rows.wheres[i].text());
  }
  std::vector<double> magnitudes;
  without_gil(all, [&] {
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
  m.def("kth_magnitudes", &kth_magnitudes, "x"_a, "k"_a, "together"_a);
  m.def(
      "energy",
      [](const py::object& x, std::int64_t k) {
        const Rows rows = rows_of(x, "x");
        const Energy e = energy(rows.spans, kth_magnitude(rows.spans, k));
        return py::make_tuple(e.kept, e.rest);
      },
      "x"_a, "k"_a);
}

}  // namespace subgrad
