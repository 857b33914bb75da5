// Parameters that several processes hold together, torch's DTensors: what the plan steps is the
// plain tensor behind each that lies here, its shard.
#pragma once

#include <pybind11/pybind11.h>

#include <cstddef>
#include <utility>
#include <vector>

namespace subgrad {

namespace py = pybind11;

// An attribute that is a slot of its type, read without a look-up; else like any attribute.
class SlotReader {
 public:
  SlotReader() = default;
  SlotReader(PyTypeObject* type, const char* name);

  // Of an object of the type. Throws what Python raises.
  py::object operator()(PyObject* object) const;

 private:
  PyObject* name_ = nullptr;
  struct PyMemberDef* member_ = nullptr;  // of the type, which the parameters keep alive
};

// The shards of a plan's entries, by the number of the entry.
class Shards {
 public:
  // Of a parameter that is a DTensor; `shard` is its tensor here.
  void add(std::size_t entry, const py::object& param, const py::object& shard);

  bool has(std::size_t entry) const { return entry < all_.size() && all_[entry].param; }

  // Takes note of a DTensor that belongs to the entry (its momentum, say); returns its shard. Null
  // and any other tensor are returned as they are.
  py::object watch(std::size_t entry, const py::object& tensor);

  // Whether each parameter has the shard that it had, distributed as it was, and so has each of
  // what is watched.
  bool same() const;

  // The parameter itself.
  PyObject* param(std::size_t entry) const { return all_[entry].param.ptr(); }

  // What of a DTensor that belongs to the entry lies here.
  py::object local(std::size_t entry, const py::object& tensor) const;

  // What of the entry's gradient lies here; null where it has none. A gradient that is distributed
  // otherwise than its parameter (most often one that waits to be summed) is first made like it, by
  // torch, and stays so. One that is no DTensor of the same processes is returned as it is.
  py::object gradient(std::size_t entry);

  // For Python's garbage collector.
  int traverse(visitproc visit, void* arg) const;
  void clear() {
    all_.clear();
    watched_.clear();
  }

 private:
  struct Shard {
    py::object param, shard;
    py::object spec;       // how the parameter is distributed
    py::object grad_spec;  // that of the last gradient: another object that says the same
  };
  // Of the one type that all have.
  PyTypeObject* type_ = nullptr;
  SlotReader local_, spec_;
  std::vector<Shard> all_;
  std::vector<std::pair<py::object, py::object>> watched_;  // with their shards
};

}  // namespace subgrad
