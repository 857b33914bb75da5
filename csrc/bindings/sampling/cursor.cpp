#include "bindings/sampling/cursor.h"

#include <algorithm>
#include <cstdint>
#include <stdexcept>
#include <utility>

#include "bindings/border/collected.h"
#include "bindings/border/turns.h"

namespace subgrad {
namespace {

// Where a pass is, and the items that have been computed ahead. An item is handed out and counted
// in one call, so that no interrupt can come in between; threads get one after the other.
class Cursor {
 public:
  // `turns` is the sampler's. `fill(epoch, position)` computes the items that follow a position:
  // a sequence, which may be empty where none of the last rows is for this rank, or None at the
  // end. An item moves the position by `size` rows, up to `length`.
  Cursor(py::object turns, py::object fill, std::uint64_t epoch, std::uint64_t position,
         std::uint64_t size, std::uint64_t length)
      : turns_(std::move(turns)),
        fill_(std::move(fill)),
        epoch_(epoch),
        position_(position),
        size_(size),
        length_(length) {}

  std::uint64_t epoch() const { return epoch_; }
  std::uint64_t position() const { return position_; }  // behind the last item

  // The next item, or null without an error at the end. What fill() raises changes nothing.
  PyObject* next() {
    if (!turns_) return nullptr;  // collected
    const Turn turn(turns_.cast<Turns&>());
    while (next_ == items_.size()) {
      const py::object chunk = filled();
      if (chunk.is_none()) return nullptr;
      const auto count = static_cast<std::size_t>(py::len(chunk));
      items_ = py::reinterpret_borrow<py::sequence>(chunk);
      next_ = 0;
      if (count == 0) position_ = length_;
    }
    PyObject* const item = PySequence_GetItem(items_.ptr(), static_cast<Py_ssize_t>(next_));
    if (item == nullptr) return nullptr;
    ++next_;
    position_ = length_ - position_ > size_ ? position_ + size_ : length_;
    return item;
  }

  void go_to(std::uint64_t epoch, std::uint64_t position) {
    const Turn turn(turns_.cast<Turns&>());
    items_ = py::tuple();
    next_ = 0;
    epoch_ = epoch;
    position_ = position;
  }

  int traverse(visitproc visit, void* arg) const {
    Py_VISIT(turns_.ptr());
    Py_VISIT(fill_.ptr());
    Py_VISIT(items_.ptr());
    return 0;
  }
  void clear() {
    turns_ = py::object();
    fill_ = py::object();
    items_ = py::tuple();
    next_ = 0;
  }

 private:
  py::object filled() {
    if (filling_.now()) {
      throw std::runtime_error("rows: goes over the very iterator that asks for them");
    }
    const AtWork::Scope filling(filling_);
    return fill_(epoch_, position_);
  }

  py::object turns_, fill_;
  std::uint64_t epoch_, position_, size_, length_;
  py::sequence items_ = py::tuple();
  std::size_t next_ = 0;
  AtWork filling_;
};

PyObject* next_item(PyObject* self) {
  auto* const instance = reinterpret_cast<py::detail::instance*>(self);
  auto* const cursor = instance->get_value_and_holder().value_ptr<Cursor>();
  try {
    if (cursor == nullptr) throw py::type_error("__init__() was not called");
    return cursor->next();
  } catch (...) {
    py::detail::try_translate_exceptions();
    return nullptr;
  }
}

// By Python's own slots: single rows are handed out in less time than pybind11's dispatch takes.
py::custom_type_setup iterated() {
  return py::custom_type_setup([](PyHeapTypeObject* type) {
    collected<Cursor>().value(type);
    type->ht_type.tp_iter = PyObject_SelfIter;
    type->ht_type.tp_iternext = &next_item;
  });
}

}  // namespace

void register_cursor(py::module_& m) {
  using namespace py::literals;

  py::class_<Cursor>(m, "Cursor", iterated())
      .def(py::init<py::object, py::object, std::uint64_t, std::uint64_t, std::uint64_t,
                    std::uint64_t>(),
           "turns"_a, "fill"_a, "epoch"_a, "position"_a, "size"_a, "length"_a)
      .def("go_to", &Cursor::go_to, "epoch"_a, "position"_a)
      .def_property_readonly("epoch", &Cursor::epoch)
      .def_property_readonly("position", &Cursor::position);
}

}  // namespace subgrad
