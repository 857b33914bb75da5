// The arrays that a call selects from: where they are, and what is ranked together.
#pragma once

#include <vector>

#include "bindings/border/new_arrays.h"
#include "core/work.h"

namespace subgrad {

class SelectOperands {
 public:
  // One array or a sequence, all in one place; `together`: they are ranked as one, otherwise each
  // on its own. Throws TypeError and ValueError that name the argument.
  SelectOperands(const py::object& arrays, bool together);

  const Place& place() const { return place_; }
  std::size_t size() const { return arrays_.size(); }
  std::int64_t elements() const;
  const py::object& given(std::size_t i) const { return given_[i]; }
  Source source(std::size_t i) const { return sources_[i]; }

  // Throws ValueError unless least <= k <= the elements that are ranked together.
  void require_k(std::int64_t k, std::int64_t least) const;
  // Throws ValueError where 32 bits cannot number the elements.
  void require_int32() const;

  // What is ranked together, in row-major order; arrays that lie otherwise are copied, and live as
  // long as this does. Call it when all arguments have been checked.
  std::vector<std::vector<Span>> scopes();

 private:
  bool together_;
  Place place_;
  std::vector<py::object> given_;   // whose library and type results have
  std::vector<py::object> arrays_;  // which keep the memory
  std::vector<Source> sources_;
  std::vector<Where> wheres_;
  std::vector<Span> spans_;
};

}  // namespace subgrad
