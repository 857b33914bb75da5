// The door to the ring that gathers batches. Arrays come as NumPy arrays of any dtype (the Python
// side makes them of tensors); only their bytes matter here.
#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include <string>
#include <vector>

#include "bindings/loading/batch_indices.h"
#include "bindings/registrars.h"
#include "cpu/loading/ring.h"

namespace subgrad {
namespace {

std::int64_t row_bytes(const py::array& array) {
  std::int64_t bytes = array.itemsize();
  for (py::ssize_t d = 1; d < array.ndim(); ++d) bytes *= array.shape(d);
  return bytes;
}

// Whether each row is one run of bytes. Strides of dimensions that have one element do not matter.
bool contiguous_rows(const py::array& array) {
  std::int64_t stride = array.itemsize();
  for (py::ssize_t d = array.ndim(); d-- > 1; stride *= array.shape(d)) {
    if (array.shape(d) != 1 && array.strides(d) != stride) return false;
  }
  return true;
}

// A ring and the arrays behind its pointers.
class HeldRing {
 public:
  HeldRing(const std::vector<py::array>& sources, std::int64_t rows, int slots)
      : sources_(sources),
        outputs_(static_cast<std::size_t>(slots)),
        rows_(rows),
        ring_(row_sources(sources, rows), slots) {}

  void bind(int slot, const std::vector<py::array>& outputs, std::int64_t rows) {
    require_slot(slot);
    if (outputs.size() != sources_.size()) throw py::value_error("outputs: one per source");
    std::vector<char*> pointers;
    for (std::size_t i = 0; i < outputs.size(); ++i) {
      const py::array& output = outputs[i];
      if (output.ndim() == 0 || output.shape(0) != rows ||
          (output.flags() & py::array::c_style) == 0 || !output.writeable() ||
          row_bytes(output) != row_bytes(sources_[i])) {
        throw py::value_error("outputs[" + std::to_string(i) + "]: does not fit its source");
      }
      pointers.push_back(static_cast<char*>(const_cast<void*>(output.data())));
    }
    outputs_[static_cast<std::size_t>(slot)] = outputs;
    ring_.bind(slot, std::move(pointers), rows);
  }

  void gather(int slot, const py::object& given) {
    const IndexArray indices = checked(slot, given);
    const py::gil_scoped_release release;
    ring_.gather(slot, indices.data());
  }

  void submit(int slot, const py::object& given) {
    const IndexArray indices = checked(slot, given);
    ring_.submit(slot, indices.data());
  }

  void wait(int slot) {
    require_slot(slot);
    const py::gil_scoped_release release;
    ring_.wait(slot);
  }

  void cancel() {
    const py::gil_scoped_release release;
    ring_.cancel();
  }

 private:
  static std::vector<RowSource> row_sources(const std::vector<py::array>& arrays,
                                            std::int64_t rows) {
    std::vector<RowSource> sources;
    for (std::size_t i = 0; i < arrays.size(); ++i) {
      const py::array& a = arrays[i];
      if (a.ndim() == 0 || a.shape(0) != rows || !contiguous_rows(a)) {
        throw py::value_error("sources[" + std::to_string(i) + "]: expected " +
                              std::to_string(rows) + " contiguous rows");
      }
      sources.push_back({static_cast<const char*>(a.data()), a.strides(0), row_bytes(a)});
    }
    return sources;
  }

  void require_slot(int slot) const {
    if (slot < 0 || slot >= ring_.slots()) throw py::index_error("slot");
  }

  // The indices of a batch, known to be inside the arrays and as many as the slot has rows.
  IndexArray checked(int slot, const py::object& given) const {
    require_slot(slot);
    return batch_indices(given, ring_.rows(slot), rows_);
  }

  // Before ring_, whose thread uses their memory, so destroyed after it.
  std::vector<py::array> sources_;
  std::vector<std::vector<py::array>> outputs_;
  std::int64_t rows_;
  GatherRing ring_;
};

}  // namespace

void register_loading(py::module_& m) {
  using namespace py::literals;
  m.def("contiguous_rows", &contiguous_rows, "array"_a);
  py::class_<HeldRing>(m, "GatherRing")
      .def(py::init<const std::vector<py::array>&, std::int64_t, int>(), "sources"_a, "rows"_a,
           "slots"_a)
      .def("bind", &HeldRing::bind, "slot"_a, "outputs"_a, "rows"_a)
      .def("gather", &HeldRing::gather, "slot"_a, "indices"_a)
      .def("submit", &HeldRing::submit, "slot"_a, "indices"_a)
      .def("wait", &HeldRing::wait, "slot"_a)
      .def("cancel", &HeldRing::cancel);
}

}  // namespace subgrad
