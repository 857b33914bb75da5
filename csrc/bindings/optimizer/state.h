// What a torch optimizer keeps in Python objects, its param_groups and its state: whether it is
// what it was, and the hyper-parameters in it.
#pragma once

#include <pybind11/pybind11.h>

#include <cstddef>
#include <cstdint>
#include <vector>

#include "core/work.h"

namespace subgrad {

namespace py = pybind11;

// The slots of a parameter's state that the kernels write.
PyObject* momentum_key();
PyObject* average_key();

void set_slot(const py::object& slots, PyObject* key, const py::object& tensor);

class OptimizerState {
 public:
  // Throws KeyError for a group without "params".
  OptimizerState(const py::list& param_groups, const py::dict& state);

  // A momentum buffer that stands where another one stood.
  struct Replaced {
    PyObject* param;
    py::object momentum;
  };

  // Whether groups, their parameters, states, momentum buffers and averages (if they are of use)
  // are the same objects as at the last call, but for momentum buffers that have others in their
  // places: those are `replaced`. No tensor is touched.
  bool same(const py::list& param_groups, const py::dict& state, std::vector<Replaced>& replaced) {
    return same_groups(param_groups) && same_state(state, replaced);
  }

  // Reads the hyper-parameters; throws what Python raises, ValueError for an l1 that is none.
  void read();

  // Averages are of use from now on.
  void watch_averages() { watches_averages_ = true; }

  // What a step is given: of a learning rate that lies on a device (float32) the address.
  const std::vector<DenseGroup>& groups() const { return read_; }
  const SgdParams& params(std::size_t group) const { return read_[group].params; }
  // Whether torch has to step it as a whole (differentiable, numbers beyond float32).
  bool torchs(std::size_t group) const { return groups_[group].torchs; }
  // Whether its learning rate lies on another device than this one.
  bool lr_elsewhere(std::size_t group, int device) const {
    return read_[group].lr != nullptr && groups_[group].lr_device != device;
  }
  // Whether it is a step on the CPU by numbers.
  bool usual(std::size_t group) const { return !torchs(group) && read_[group].lr == nullptr; }

  // For Python's garbage collector.
  int traverse(visitproc visit, void* arg) const;
  void clear();

 private:
  struct Group {
    py::object dict, params;
    std::vector<PyObject*> items;  // of params
    std::uint64_t version = 0;     // of the dict, when all was read in it and none of it can change
    bool torchs = false;
    int lr_device = 0;
  };
  // References to all of them are held, so that an address cannot come back as another object.
  struct Slot {
    py::object param, dict, momentum, average;
    std::uint64_t version = 0;  // of the dict, when it last held those
  };

  bool same_groups(const py::list& param_groups) const;
  bool same_state(const py::dict& state, std::vector<Replaced>& replaced);
  bool lr_on_device(std::size_t group, PyObject* lr);

  std::vector<Group> groups_;
  std::vector<Slot> slots_;
  std::vector<DenseGroup> read_;
  bool watches_averages_ = false;
};

}  // namespace subgrad
