// What a torch optimizer keeps in Python objects, its param_groups and its state: whether it is
// what it was, and the hyper-parameters in it.
#pragma once

#include <pybind11/pybind11.h>

#include <cstddef>
#include <cstdint>
#include <vector>

#include "core/types.h"

namespace subgrad {

namespace py = pybind11;

class OptimizerState {
 public:
  // Throws KeyError for a group without "params".
  OptimizerState(const py::list& param_groups, const py::dict& state);

  // Whether groups, their parameters, states and momentum buffers are the same objects as at the
  // beginning. No tensor is touched.
  bool same(const py::list& param_groups, const py::dict& state) {
    return same_groups(param_groups) && same_state(state);
  }

  // Reads the hyper-parameters; throws what Python raises, ValueError for an l1 that is none.
  void read();

  // Of a group, as it was last read.
  const SgdParams& row(std::size_t group) const { return rows_[group]; }
  // Whether torch has to step it as a whole (differentiable, numbers beyond float32).
  bool torchs(std::size_t group) const { return groups_[group].torchs; }
  // A learning rate that lies on a device (float32), and on which; null: a number.
  const float* device_lr(std::size_t group) const { return device_lr_[group]; }
  int lr_device(std::size_t group) const { return groups_[group].lr_device; }
  // Neither of both: a step on the CPU by numbers.
  bool usual(std::size_t group) const { return !torchs(group) && device_lr(group) == nullptr; }

  const std::vector<SgdParams>& rows() const { return rows_; }
  const std::vector<const float*>& device_lrs() const { return device_lr_; }

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
    py::object param, dict, momentum;
    std::uint64_t version = 0;  // of the dict, when it last held that momentum
  };

  bool same_groups(const py::list& param_groups) const;
  bool same_state(const py::dict& state);
  bool lr_on_device(std::size_t group, PyObject* lr);

  std::vector<Group> groups_;
  std::vector<Slot> slots_;
  std::vector<SgdParams> rows_;
  std::vector<const float*> device_lr_;
};

}  // namespace subgrad
