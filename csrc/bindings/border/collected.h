// Python's garbage collector must see through a plan: it holds parameters, which may hold its
// owner.
#pragma once

#include <pybind11/pybind11.h>

namespace subgrad {

namespace py = pybind11;

// Whether `self` holds a C++ object. A plan whose constructor raised holds none, and one that is
// being made has not even a layout to ask: pybind11 makes Python objects between the two, which
// may start a collection, when it meets a type for the first time.
inline bool holds_object(PyObject* self) {
  const auto* const made = reinterpret_cast<const py::detail::instance*>(self);
  const bool laid_out = made->simple_layout || made->nonsimple.values_and_holders != nullptr;
  return laid_out && py::detail::is_holder_constructed(self);
}

// For the py::class_ of a type that has traverse(visit, argument) and clear().
template <class Plan>
py::custom_type_setup collected() {
  return py::custom_type_setup([](PyHeapTypeObject* heap_type) {
    PyTypeObject& type = heap_type->ht_type;
    type.tp_flags |= Py_TPFLAGS_HAVE_GC;
    type.tp_traverse = [](PyObject* self, visitproc visit, void* arg) {
      Py_VISIT(Py_TYPE(self));
      if (!holds_object(self)) return 0;
      return py::cast<const Plan&>(py::handle(self)).traverse(visit, arg);
    };
    type.tp_clear = [](PyObject* self) {
      if (holds_object(self)) py::cast<Plan&>(py::handle(self)).clear();
      return 0;
    };
  });
}

}  // namespace subgrad
