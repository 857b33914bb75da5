#include "bindings/sampling/cursor.h"

#include <cstdint>
#include <memory>
#include <stdexcept>
#include <utility>

#include "bindings/border/collected.h"
#include "bindings/border/turns.h"

namespace subgrad {
namespace {

// Where a pass stands. Its iterator and the sampler both hold it, so that the sampler knows what
// became of a pass whose iterator is gone.
struct Progress {
  std::uint64_t epoch = 0, position = 0;
  bool over = false;  // its end has been seen, or nobody can ask for it any more

  // The epoch and position of what comes next.
  py::tuple where() const {
    if (over) return py::make_tuple(epoch + 1, 0);
    return py::make_tuple(epoch, position);
  }
};

// One pass, and the items that have been computed ahead. Where it begins is asked when its first
// item is: torch's loaders make iterators that they never use. An item is handed out and counted in
// one call, so that no interrupt can come in between; threads get one after the other. A loader
// that gathers ahead draws items first and counts each when its batch is taken.
class Cursor {
 public:
  // `turns` is the sampler's. `begin(cursor)` calls enter(). `fill(epoch, position)` computes the
  // items that follow a position: a sequence, which may be empty where none of the last rows is for
  // this rank. An item moves the position by `size` rows, up to `length`; there is one as long as
  // `needed` rows are left.
  Cursor(py::object turns, py::object begin, py::object fill, std::uint64_t size,
         std::uint64_t needed, std::uint64_t length)
      : turns_(std::move(turns)),
        begin_(std::move(begin)),
        fill_(std::move(fill)),
        progress_(new Progress),
        size_(size),
        needed_(needed),
        length_(length) {}
  ~Cursor() {
    if (begun_ && !more(progress_->position)) progress_->over = true;
  }
  Cursor(const Cursor&) = delete;
  Cursor& operator=(const Cursor&) = delete;

  const std::shared_ptr<Progress>& progress() const { return progress_; }
  bool begun() const { return begun_; }

  // The next item, or null without an error at the end. What fill() raises changes nothing.
  PyObject* next(py::handle self) {
    if (!turns_) return nullptr;  // collected
    const Turn turn(turns_.cast<Turns&>());
    PyObject* const item = drawn_item(self);
    if (item != nullptr) {
      progress_->position = drawn_;
    } else if (!PyErr_Occurred()) {
      progress_->over = true;
    }
    return item;
  }

  // The same in steps: the next item, or null at the end; one of those counted; the end seen.
  PyObject* draw(py::handle self) {
    if (!turns_) return nullptr;
    const Turn turn(turns_.cast<Turns&>());
    return drawn_item(self);
  }
  void count() { progress_->position = behind(progress_->position); }
  void finish() { progress_->over = true; }

  // Where the pass is to begin: what begin() says, or a state.
  void enter(std::uint64_t epoch, std::uint64_t position) {
    drawn_ = position;
    *progress_ = {epoch, position};
  }
  void go_to(std::uint64_t epoch, std::uint64_t position) {
    if (!turns_) return;
    const Turn turn(turns_.cast<Turns&>());
    require_no_filling();
    items_ = py::list();
    next_ = 0;
    enter(epoch, position);
    begun_ = true;
  }

  int traverse(visitproc visit, void* arg) const {
    Py_VISIT(turns_.ptr());
    Py_VISIT(begin_.ptr());
    Py_VISIT(fill_.ptr());
    Py_VISIT(items_.ptr());
    return 0;
  }
  void clear() {
    turns_ = py::object();
    begin_ = py::object();
    fill_ = py::object();
    items_ = py::list();
    next_ = 0;
  }

 private:
  bool more(std::uint64_t position) const {
    return position <= length_ && length_ - position >= needed_;
  }
  std::uint64_t behind(std::uint64_t position) const {
    return length_ - position > size_ ? position + size_ : length_;
  }

  PyObject* drawn_item(py::handle self) {
    if (!begun_) {
      begin_(self);
      begun_ = true;
    }
    while (next_ == static_cast<std::size_t>(py::len(items_))) {
      if (!more(drawn_)) return nullptr;
      const py::object items = filled();
      if (py::len(items) == 0) drawn_ = length_;
      items_ = items;
      next_ = 0;
    }
    PyObject* const item = PySequence_GetItem(items_.ptr(), static_cast<Py_ssize_t>(next_));
    if (item == nullptr) return nullptr;
    ++next_;
    drawn_ = behind(drawn_);
    return item;
  }

  void require_no_filling() const {
    if (filling_.now()) {
      throw std::runtime_error("rows: uses the very iterator that asks for them");
    }
  }
  py::object filled() {
    require_no_filling();
    const AtWork::Scope filling(filling_);
    return fill_(progress_->epoch, drawn_);
  }

  py::object turns_, begin_, fill_;
  std::shared_ptr<Progress> progress_;
  bool begun_ = false;
  std::uint64_t drawn_ = 0;  // behind the last item that was drawn
  std::uint64_t size_, needed_, length_;
  py::object items_ = py::list();
  std::size_t next_ = 0;
  AtWork filling_;
};

PyObject* next_item(PyObject* self) {
  auto* const instance = reinterpret_cast<py::detail::instance*>(self);
  auto* const cursor = instance->get_value_and_holder().value_ptr<Cursor>();
  try {
    if (cursor == nullptr) throw py::type_error("__init__() was not called");
    return cursor->next(self);
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

  py::class_<Progress, std::shared_ptr<Progress>>(m, "Progress")
      .def_readonly("epoch", &Progress::epoch)
      .def_readonly("position", &Progress::position)
      .def_readonly("over", &Progress::over)
      .def_property_readonly("where", &Progress::where);
  py::class_<Cursor>(m, "Cursor", iterated())
      .def(py::init<py::object, py::object, py::object, std::uint64_t, std::uint64_t,
                    std::uint64_t>(),
           "turns"_a, "begin"_a, "fill"_a, "size"_a, "needed"_a, "length"_a)
      .def("draw",
           [](const py::object& self) {
             PyObject* const item = self.cast<Cursor&>().draw(self);
             if (item != nullptr) return py::reinterpret_steal<py::object>(item);
             if (PyErr_Occurred()) throw py::error_already_set();
             throw py::stop_iteration();
           })
      .def("count", &Cursor::count)
      .def("finish", &Cursor::finish)
      .def("enter", &Cursor::enter, "epoch"_a, "position"_a)
      .def("go_to", &Cursor::go_to, "epoch"_a, "position"_a)
      .def_property_readonly("begun", &Cursor::begun)
      .def_property_readonly("progress", &Cursor::progress);
}

}  // namespace subgrad
