// `_core.clip.Options`: how a call judges its gradients, as a value of Python's.
#pragma once

#include <pybind11/pybind11.h>

#include <string>

#include "cpu/clip/stages.h"

namespace subgrad {

namespace py = pybind11;

// Throws ValueError naming the argument.
NormScope scope_named(const std::string& name);

// Null for None. Bindings take options as an object: pybind11 goes through all of a call's
// arguments again where a None stands for a pointer.
const ClipOptions* options_of(const py::object& options);

void register_clip_options(py::module_& m);

}  // namespace subgrad
