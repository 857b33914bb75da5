// Python's garbage collector must see through a plan: it holds parameters, which may hold its
// owner.
#pragma once

#include <pybind11/pybind11.h>

namespace subgrad {

namespace py = pybind11;

// For the py::class_ of a type that has traverse(visit, argument) and clear().
template <class Plan>
py::custom_type_setup collected() {
  return py::custom_type_setup([](PyHeapTypeObject* heap_type) {
    PyTypeObject& type = heap_type->ht_type;
    type.tp_flags |= Py_TPFLAGS_HAVE_GC;
    type.tp_traverse = [](PyObject* self, visitproc visit, void* arg) {
      Py_VISIT(Py_TYPE(self));
      // A plan whose constructor raised has nothing yet.
      if (!py::detail::is_holder_constructed(self)) return 0;
      return py::cast<const Plan&>(py::handle(self)).traverse(visit, arg);
    };
    type.tp_clear = [](PyObject* self) {
      if (py::detail::is_holder_constructed(self)) py::cast<Plan&>(py::handle(self)).clear();
      return 0;
    };
  });
}

}  // namespace subgrad
