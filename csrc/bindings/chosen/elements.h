// Which elements of a tensor are chosen, checked, and how its layout says where they lie.
#pragma once

#include <pybind11/numpy.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "bindings/border/extents.h"
#include "cpu/chosen/places.h"
#include "cpu/support/layout.h"

namespace subgrad {

// Which of so many elements are chosen: checked and copied once, for the caller may change his own
// numbers while they are used.
class CheckedIndices {
 public:
  // int32 or int64 numbers in one dimension, one behind the other. Throws ValueError unless they
  // ascend and are below `elements`; `where` has them, `whose` the elements.
  CheckedIndices(const py::array& given, std::int64_t elements, const std::string& where,
                 const std::string& whose);

  std::int64_t elements() const { return elements_; }
  std::int64_t size() const { return view().n; }
  Indices view() const {
    return narrow_ ? Indices{small_.data(), true, static_cast<std::int64_t>(small_.size())}
                   : Indices{large_.data(), false, static_cast<std::int64_t>(large_.size())};
  }

 private:
  std::int64_t elements_;
  bool narrow_;
  std::vector<std::int32_t> small_;
  std::vector<std::int64_t> large_;
};

// The layout of a ChosenTensor; null where both arrays are row-major runs.
std::unique_ptr<const Layout> chosen_layout(const Extents& param, const Extents& grad);

}  // namespace subgrad
