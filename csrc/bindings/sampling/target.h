// Where indices are written, or are changed in place: contiguous int64, on the host or on a device.
#pragma once

#include <cstring>
#include <vector>

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
      fill(on_host);
    } else {
      launch(
          [&](const CudaApi& api, void* stream) { return on_device(api, stream, data_, count_); });
    }
  }
  // The first of these: on an aligned copy where the array itself, as a view of bytes may, is not.
  template <class OnHost>
  void fill(const OnHost& on_host) const {
    without_gil(count_, [&] {
      if (count_ == 0 || reinterpret_cast<std::uintptr_t>(data_) % sizeof *data_ == 0) {
        on_host(data_, count_);
        return;
      }
      std::vector<std::int64_t> aligned(static_cast<std::size_t>(count_));
      void* const here = data_;
      std::memcpy(aligned.data(), here, aligned.size() * sizeof *data_);
      on_host(aligned.data(), count_);
      std::memcpy(here, aligned.data(), aligned.size() * sizeof *data_);
    });
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
