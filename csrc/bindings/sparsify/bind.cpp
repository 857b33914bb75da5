// Weights made sparse in place. Numbers have been checked by sparsify.py, arrays are checked
// here.
#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include <memory>
#include <optional>

#include "bindings/border/gil.h"
#include "bindings/border/registrars.h"
#include "bindings/border/written_memory.h"
#include "bindings/select/amounts.h"
#include "cpu/sparsify/sparsify.h"

namespace subgrad {
namespace {

enum class Walk { memory, row_major };

// The arrays that a call changes: viewed, checked, and put into a work list.
class InPlace {
 public:
  InPlace(const py::object& argument, Walk order, const py::list* masks = nullptr)
      : list_(array_list(argument, "x")) {
    const std::size_t count = list_.items.size();
    for (std::size_t i = 0; i < count; ++i) {
      wheres_.push_back(list_.where("x", i));
      const ArrayView view = view_array(list_.items[i], wheres_[i]);
      extents_.emplace_back(view);
      require_writable(view, extents_[i], wheres_[i]);
      if (is_torch(view.source)) versioned_.append(list_.items[i]);
    }
    WrittenMemory written;
    for (std::size_t i = 0; i < count; ++i) written.add(extents_[i], wheres_[i]);
    written.seal();
    if (masks != nullptr) masks_ = view_masks(*masks);
    for (std::size_t i = 0; i < masks_.size(); ++i) {
      const Range range = byte_range(masks_[i]);
      if (range.begin != range.end && written.meets(range)) {
        throw py::value_error(list_.where("mask", i).text() + ": shares memory with x");
      }
    }
    for (std::size_t i = 0; i < count; ++i) {
      if (extents_[i].size > 0) add(i, order);
    }
  }

  std::size_t size() const { return extents_.size(); }
  const Extents& extents(std::size_t i) const { return extents_[i]; }
  const Where& where(std::size_t i) const { return wheres_[i]; }
  const std::vector<Where>& wheres() const { return wheres_; }

  // Calls change(work list), without the GIL where that pays.
  template <class Change>
  void run(const Change& change) {
    if (versioned_.size() > 0) increment_versions(versioned_);
    std::int64_t elements = 0;
    for (const WeightSpan& w : work_) elements += w.n;
    without_gil(elements, kStepElements, [&] { change(work_); });
  }

 private:
  std::vector<py::array> view_masks(const py::list& masks) const {
    if (masks.size() != extents_.size()) {
      throw py::value_error("mask: expected " + std::to_string(extents_.size()) +
                            " arrays like x, got " + std::to_string(masks.size()));
    }
    std::vector<py::array> views;
    for (std::size_t i = 0; i < extents_.size(); ++i) {
      const Where where = list_.where("mask", i);
      const auto mask = masks[i].cast<py::array>();
      const Extents& x = extents_[i];
      if (mask.dtype().kind() != 'b') {
        throw py::type_error(where.text() + ": expected bool, got " +
                             std::string(py::str(mask.dtype())));
      }
      if (!std::equal(mask.shape(), mask.shape() + mask.ndim(), x.shape.data(),
                      x.shape.data() + x.ndim())) {
        throw py::value_error(where.text() + ": expected shape " +
                              shape_text(x.ndim(), x.shape.data()) + " like " + wheres_[i].text() +
                              ", got " + shape_text(int(mask.ndim()), mask.shape()));
      }
      views.push_back(mask);
    }
    return views;
  }

  void add(std::size_t i, Walk order) {
    const Extents& x = extents_[i];
    const std::int64_t *shape = x.shape.data(), *strides = x.strides.data();
    const std::int64_t* mask_strides = masks_.empty() ? strides : masks_[i].strides();
    const std::int64_t mask_size = masks_.empty() ? x.itemsize() : 1;
    auto layout = std::make_unique<const Layout>(x.ndim(), shape, strides, mask_strides, strides,
                                                 order == Walk::row_major);
    const bool one_run = x.aligned() && layout->contiguous(x.itemsize(), mask_size, x.itemsize());
    WeightSpan w{x.data, x.dtype, x.size, one_run ? nullptr : layout.get()};
    if (!masks_.empty()) w.mask = static_cast<const std::uint8_t*>(masks_[i].data());
    w.row = x.ndim() == 0 ? 1 : x.size / shape[0];
    work_.push_back(w);
    layouts_.push_back(std::move(layout));
  }

  ArrayList list_;
  std::vector<Where> wheres_;
  std::vector<Extents> extents_;
  std::vector<py::array> masks_;
  std::vector<std::unique_ptr<const Layout>> layouts_;
  std::vector<WeightSpan> work_;
  py::list versioned_;  // the torch tensors among them
};

void require_groups(const InPlace& x, int m) {
  for (std::size_t i = 0; i < x.size(); ++i) {
    const Extents& e = x.extents(i);
    if (e.ndim() > 0 && e.shape[e.ndim() - 1] % m == 0) continue;
    throw py::value_error(x.where(i).text() + ": expected a last dimension that is a multiple of " +
                          std::to_string(m) + ", got shape " +
                          shape_text(e.ndim(), e.shape.data()));
  }
}

// One of the three is given.
void hard_threshold(const py::object& x, std::optional<double> threshold,
                    std::optional<double> density, std::optional<std::int64_t> k, bool together) {
  InPlace arrays(x, Walk::row_major);
  if (threshold.has_value()) {
    arrays.run([&](const std::vector<WeightSpan>& work) { keep_at_least(work, *threshold); });
    return;
  }
  std::vector<Span> spans;
  for (std::size_t i = 0; i < arrays.size(); ++i) {
    const Extents& e = arrays.extents(i);
    spans.push_back({e.data, e.dtype, e.size});
    if (k.has_value() && !together) require_k(*k, 0, e.size, arrays.where(i).text());
  }
  const std::int64_t all = elements(spans);
  if (together) refuse_mixed(spans, arrays.wheres());
  if (k.has_value() && together) require_k(*k, 0, all, "all arrays");
  const auto k_for = [&](std::int64_t n) { return k.has_value() ? *k : k_of(*density, n); };
  arrays.run([&](const std::vector<WeightSpan>& work) {
    if (together) {
      keep_largest(work, k_for(all));
    } else {
      for (const WeightSpan& w : work) keep_largest({w}, k_for(w.n));
    }
  });
}

}  // namespace

void register_sparsify(py::module_& m) {
  using namespace py::literals;

  m.def(
      "shrink",
      [](const py::object& x, double threshold, double scale) {
        InPlace(x, Walk::memory).run([&](const std::vector<WeightSpan>& arrays) {
          shrink(arrays, threshold, scale);
        });
      },
      "x"_a, "threshold"_a, "scale"_a);
  m.def(
      "shrink_rows",
      [](const py::object& x, double threshold) {
        InPlace(x, Walk::row_major).run([&](const std::vector<WeightSpan>& arrays) {
          shrink_rows(arrays, threshold);
        });
      },
      "x"_a, "threshold"_a);
  m.def(
      "apply_masks",
      [](const py::object& x, const py::list& masks) {
        InPlace(x, Walk::memory, &masks).run([](const std::vector<WeightSpan>& arrays) {
          apply_masks(arrays);
        });
      },
      "x"_a, "mask"_a);
  m.def("hard_threshold", &hard_threshold, "x"_a, "threshold"_a, "density"_a, "k"_a, "together"_a);
  m.def(
      "keep_pattern",
      [](const py::object& x, int n, int of) {
        InPlace arrays(x, Walk::row_major);
        require_groups(arrays, of);
        arrays.run([&](const std::vector<WeightSpan>& work) { keep_pattern(work, n, of); });
      },
      "x"_a, "n"_a, "m"_a);
  m.attr("MAX_PATTERN") = kMaxPattern;
}

}  // namespace subgrad
