// The way to the GPU: the launchers of the module _cuda, looked up at the first need.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "bindings/border/place.h"
#include "cuda/api.h"

namespace subgrad {

// Why kernels cannot run on this device, in words; empty if they can.
std::string cuda_problem(int device);

// What there is, for `python -m subgrad_fast info`: "architectures", "driver", "devices",
// "problem".
py::dict cuda_info();

// Whether this build has CUDA kernels. Does not look for a driver.
bool cuda_built();

// Throws ValueError naming the argument if kernels cannot run where an array of this library is.
void require_cuda(const Place& place, const Where& where);

// Calls launch(launchers, stream) in the stream that a library works in, without the GIL: a full
// queue makes a launch wait. Throws RuntimeError if CUDA reports an error.
void launch_cuda(const Place& place,
                 const std::function<int(const CudaApi&, void* stream)>& launch);

}  // namespace subgrad
