// Gradients as they come from Python: viewed, checked, and listed for the loops over them.
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "bindings/border/extents.h"
#include "bindings/border/place.h"
#include "core/work.h"
#include "cpu/support/layout.h"

namespace subgrad {

class GradientList {
 public:
  const std::vector<Gradient>& gradients() const { return gradients_; }
  std::int64_t elements() const { return elements_; }
  // Where all of them are; the host's if there are none.
  const Place& place() const { return place_; }

  // The type that torch's norm of these gradients has.
  DType norm_dtype() const;

  // Tells autograd that the tensors among them will be changed. Runs code of Python's.
  void announce() const;

 protected:
  GradientList() = default;
  void add(py::object array, const ArrayView& view, const Extents& extents);

  // Whether an array of this view can join those that there are.
  bool in_place(const ArrayView& view) const {
    return arrays_.empty() || view.device == place_.device;
  }

 private:
  Place place_;
  std::vector<py::object> arrays_;
  std::vector<std::unique_ptr<const Layout>> layouts_;  // of those that are not one run
  std::vector<Gradient> gradients_;
  std::int64_t elements_ = 0;
};

// Arrays of any library.
class ArrayGradients : public GradientList {
 public:
  // Throws TypeError or ValueError naming the array. All are in one place. `written`: they are to
  // be changed in place, so that none may share memory with another.
  ArrayGradients(const py::object& argument, const char* name, bool written);
};

// torch's tensors, of which anything may be asked.
class TorchGradients : public GradientList {
 public:
  // The gradients of those parameters that have one. Nothing where one of them is not for our
  // loops: of a subclass, sparse, complex, in several places ... Throws ValueError for one without
  // memory.
  static std::optional<TorchGradients> of_parameters(const py::list& params);

  // The same for tensors themselves.
  static std::optional<TorchGradients> of_tensors(const py::list& tensors);

  // Whether each element is met once, so that all may be changed in place.
  bool lie_apart() const;

 private:
  bool take(py::object tensor);

  std::vector<Range> ranges_;
  bool overlaps_ = false;  // one of them does by itself
};

}  // namespace subgrad
