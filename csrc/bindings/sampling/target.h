// Where indices are written, or are changed in place: contiguous int64, on the host or on a device.
#pragma once

#include "bindings/border/gil.h"
#include "bindings/border/new_arrays.h"
#include "bindings/cuda/backend.h"

namespace subgrad {

class IndexTarget {
 public:
  // A NumPy array or a tensor, valid while the object lives and the GIL is held. Throws ValueError
  // naming the argument for one of another type or order, TypeError for what is no array.
  IndexTarget(const py::object& object, const Where& where);

  std::int64_t* data() const { return data_; }
  std::int64_t count() const { return count_; }
  int ndim() const { return ndim_; }
  const Place& place() const { return place_; }

  // Calls on_host(data, count), without the GIL where that pays, or
  // on_device(api, stream, data, count) in the stream that the tensor's library works in. Throws
  // ValueError naming the argument if no kernels can run there, RuntimeError if CUDA reports an
  // error.
  template <class OnHost, class OnDevice>
  void run(const OnHost& on_host, const OnDevice& on_device) const {
    if (place_.on_host()) {
      without_gil(count_, [&] { on_host(data_, count_); });
    } else {
      launch(
          [&](const CudaApi& api, void* stream) { return on_device(api, stream, data_, count_); });
    }
  }
  template <class Launch>
  void launch(const Launch& body) const {
    require_cuda(place_, where_);
    launch_cuda(place_, body);
  }

 private:
  Where where_;
  Place place_;
  std::int64_t* data_;
  std::int64_t count_;
  int ndim_;
  py::object owner_;  // of a view made here
};

}  // namespace subgrad
