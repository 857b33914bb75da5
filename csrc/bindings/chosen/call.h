// One step on chosen elements: groups of tensors are added, then all is checked and stepped.
#pragma once

#include <pybind11/numpy.h>

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <tuple>
#include <vector>

#include "bindings/border/written_memory.h"
#include "bindings/chosen/elements.h"
#include "bindings/clip/options.h"
#include "cpu/chosen/chosen.h"

namespace subgrad {

class ChosenCall {
 public:
  // Null `clip`: gradients are judged as the terms alone say.
  explicit ChosenCall(const GivenOptions* clip)
      : clip_(clip != nullptr ? clip->read() : ClipOptions()) {}

  // Adds a group: an array or lists of arrays, as many of each; no momentum buffers without
  // momentum. `first`: by tensor, whether the momentum holds nothing yet.
  void add(const py::object& params, const py::object& grads, const py::list& indices,
           const py::object& momentum_buffers, const SgdParams& hyper,
           const std::vector<bool>& first);

  // Checks all, takes the step and makes the assignments (dict, key, value) that belong to it;
  // neither where gradients stop it. The norm of the gradients, where somebody asked.
  std::optional<double> run(const std::vector<std::tuple<py::dict, py::object, py::object>>& then);

 private:
  // What a tensor's arrays are, at an address that stays.
  struct Tensor {
    Where param_where, grad_where, momentum_where;
    Extents param, grad, momentum;
    std::shared_ptr<void> loan;  // what is ours of the gradient
    const CheckedIndices* indices;
    std::unique_ptr<const Layout> layout;
  };
  void hold(const py::object& array, const ArrayView& view, bool written);
  void add_tensor(const py::object& param, const py::object& grad, const py::object& indices,
                  std::ptrdiff_t index);
  void add_momentum(const py::object& array);
  std::vector<ChosenTensor> work() const;
  Clipping judge(const std::vector<ChosenTensor>& tensors) const;

  ClipOptions clip_;
  std::vector<DenseGroup> groups_;
  std::deque<Tensor> tensors_;
  std::vector<ChosenTensor> work_;
  WrittenMemory written_;
  py::list held_, versioned_;
};

// Values change places with those of the parameters' elements; nothing is written where an argument
// is wrong. `names` are what messages call the parameters and the values.
void swap_values(const py::list& params, const py::list& indices, const py::list& values,
                 const std::vector<std::pair<std::string, std::string>>& names);

}  // namespace subgrad
