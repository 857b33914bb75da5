// What clipping asks of a kernel's every block.
#pragma once

#include "cuda/api.h"

namespace subgrad {

__device__ inline double unscale_of(const CudaClip& clip) {
  return 1.0 / (clip.grad_scale_on_device != nullptr
                    ? static_cast<double>(*clip.grad_scale_on_device)
                    : clip.grad_scale);
}

// Whether nothing is to be written.
__device__ inline bool skips(const CudaClip& clip) {
  if (clip.found_inf != nullptr && *clip.found_inf != 0.0f) return true;
  return clip.skip_nonfinite && !isfinite(clip.sums->value);
}

// Where the sums of squares of a call lie: those of all gradients, of each group, of each gradient.
__host__ __device__ inline int sum_of_group(int group) { return 1 + group; }
__host__ __device__ inline int sum_of_gradient(int groups, int i) { return 1 + groups + i; }

}  // namespace subgrad
