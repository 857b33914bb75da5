// The SGD step on elements that were chosen once: of a tensor, nothing else is read or written.
#pragma once

#include <cstdint>
#include <vector>

#include "core/work.h"
#include "cpu/chosen/places.h"
#include "cpu/clip/norm.h"
#include "cpu/support/layout.h"

namespace subgrad {

// The chosen elements of a tensor.
//
// A null layout means that parameter and gradient are row-major runs. Otherwise its dimensions are
// in row-major order, and its momentum strides say what an index along a dimension adds to an
// element's position, counted in the order in which the dense step would count.
struct ChosenTensor {
  Indices indices;
  void* param;
  const void* grad;
  void* momentum;  // one run of as many elements; null: the rule has none
  const Layout* layout;
  int group;
  int types;   // row of kDenseTypes
  bool first;  // the momentum holds nothing yet
};

// By tensor, the sums of squares of the gradients at the chosen elements. They have the bits that
// square_sums(gradients) finds where all other elements are zero.
SquareSums square_sums(const std::vector<ChosenTensor>& tensors);

// Takes the step by the dense kernels, chunk by chunk: elements are gathered, stepped, put back.
// `stages`: by tensor, or empty.
void run_chosen(const std::vector<ChosenTensor>& tensors, const std::vector<DenseGroup>& groups,
                const Stages& stages);

// Values that change places with those of a tensor's elements; all strides of the layout are the
// tensor's.
struct ChosenValues {
  Indices indices;
  char* tensor;
  char* values;  // one run of as many elements
  const Layout* layout;
  DType dtype;
};

void swap_chosen(const std::vector<ChosenValues>& all);

}  // namespace subgrad
