// `_core.clip.Options`: how a call judges its gradients, as a value of Python's; and
// `_core.clip.Clipping`: what it has found. Both may lie on a device, where the host does not look.
#pragma once

#include <pybind11/pybind11.h>

#include <string>

#include "bindings/border/arrays.h"
#include "cpu/clip/stages.h"

namespace subgrad {

// Throws ValueError naming the argument.
NormScope scope_named(const std::string& name);

// A float32 that lies on a device. No array: there is none.
struct DeviceNumber {
  py::object array;
  const float* data = nullptr;
  int device = kHost;

  explicit operator bool() const { return data != nullptr; }
};

// Options whose numbers may lie on a device: those are then not in ClipOptions.
struct GivenOptions : ClipOptions {
  DeviceNumber scale_there, found_there;

  bool on_device() const { return scale_there || found_there; }
  // Whether a step's gradients may stop it.
  bool may_skip() const { return skip_nonfinite || found_inf || found_there; }
  // With all numbers; waits for those on a device.
  ClipOptions read() const;
};

// What is found of gradients. On a device nobody knows of a skip (`skip` is false) before it is
// over.
struct Found : Clipping {
  py::object norm_there;  // null, or an array of one float64
  GivenOptions given;     // that a step on a device was judged by

  // The norm: a number, an array without dimensions, or None.
  py::object norm_or_array() const;
  // Whether nothing was written; waits for a device.
  bool skipped() const;
};

// Null for None. Bindings take options as an object: pybind11 goes through all of a call's
// arguments again where a None stands for a pointer.
const GivenOptions* options_of(const py::object& options);

void register_clip_options(py::module_& m);

}  // namespace subgrad
