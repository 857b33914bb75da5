// Gradients as they come from Python: viewed, checked, and listed for the loops over them.
#pragma once

#include <memory>
#include <vector>

#include "bindings/border/extents.h"
#include "core/work.h"
#include "cpu/support/layout.h"

namespace subgrad {

class GradientList {
 public:
  // Throws TypeError or ValueError naming the array. `written`: they are to be changed in place, so
  // that none may share memory with another.
  GradientList(const py::object& argument, const char* name, bool written);

  const std::vector<Gradient>& gradients() const { return gradients_; }
  std::int64_t elements() const { return elements_; }

  // Tells autograd of those tensors that will be changed: all where `stages` is empty, else those
  // that their stage changes. Runs code of Python's.
  void announce(const std::vector<GradientStage>& stages) const;

 private:
  ArrayList arrays_;
  std::vector<Extents> extents_;
  std::vector<std::unique_ptr<const Layout>> layouts_;
  std::vector<Gradient> gradients_;
  std::int64_t elements_ = 0;
};

}  // namespace subgrad
