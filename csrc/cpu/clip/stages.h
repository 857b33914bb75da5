// What a step does to its gradients: measured together, judged, and each given its stage.
#pragma once

#include <vector>

#include "core/work.h"
#include "cpu/clip/norm.h"

namespace subgrad {

struct ClipOptions {
  NormScope scope = NormScope::global;
  bool measure = false;         // the norm is wanted, whoever needs it beside
  bool skip_nonfinite = false;  // a gradient that is not finite stops the step
  double grad_scale = 1.0;      // what all gradients have been multiplied by
  bool found_inf = false;       // somebody else has found that the step is to be skipped
};

// A gradient that somebody else has measured and will scale.
struct Measured {
  int group;
  SquareSum sum;
  bool wide;  // its arithmetic is f64's
};

struct Clipping {
  bool looked = false;    // a step's gradients have been looked at
  bool measured = false;  // their norm is known
  double norm = 0.0;      // of all gradients
  bool skip = false;      // nothing is to be written
  // By gradient, those measured elsewhere last; empty where none changes anything.
  Stages stages;
};

// Whether a step with these terms asks for the norm of its gradients.
bool measures(const std::vector<DenseGroup>& groups, const ClipOptions& options);

// Whether it asks for that, or changes them.
bool clips(const std::vector<DenseGroup>& groups, const ClipOptions& options);

// `group_of`: by gradient. The gradients count as divided by grad_scale: it is part of the stages,
// and of the norm, which is that of all gradients whatever the scope. `squares`: the gradients'
// sums of squares, where they are known.
Clipping clipping_of(const std::vector<Gradient>& gradients, const std::vector<int>& group_of,
                     const std::vector<DenseGroup>& groups, const ClipOptions& options,
                     const std::vector<Measured>& others = {}, const SquareSums* squares = nullptr);

}  // namespace subgrad
