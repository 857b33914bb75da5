// A ring of slots that batches are gathered into, wherever the arrays lie: on the host at once or
// ahead of time, on a device when they are asked for, in the stream that their library works in.
#pragma once

#include <memory>
#include <vector>

#include "bindings/border/generic_array.h"
#include "bindings/border/new_arrays.h"
#include "cpu/loading/ring.h"

namespace subgrad {

// Whether each row is one run of bytes. Strides of dimensions that have one element do not matter.
bool contiguous_rows(const py::object& array);

// The arrays behind the pointers of a ring are held.
class HeldRing {
 public:
  // NumPy arrays of any dtype, or tensors on one device, where `like` is too (there may be no
  // sources). All have so many contiguous rows.
  HeldRing(const std::vector<py::object>& sources, std::int64_t rows, int slots,
           const py::object& like);

  // One output for each source, of `rows` contiguous rows: where the next batches of a slot go.
  void bind(int slot, const std::vector<py::object>& outputs, std::int64_t rows);

  // Fills a slot. `indices`: integers of [0, rows), or on a device an object with write(out), which
  // computes them there.
  void gather(int slot, const py::object& indices);
  // Has it filled in the background, where there is one; wait() returns once it is.
  void submit(int slot, const py::object& indices);
  void wait(int slot);
  // Forgets what was submitted and not waited for.
  void cancel();

  // Fills a slot on a device by indices there, which have been checked.
  void gather_by(int slot, const std::int64_t* indices);

  // The indices of a slot's batch where they lie on a device; None on the host.
  py::object indices_on_device(int slot) const;

 private:
  struct Slot {
    std::vector<py::object> outputs;
    std::vector<GatherArray> arrays;  // on a device
    NewArray indices{py::none(), nullptr};
    std::int64_t rows = 0;
  };

  Slot& at(int slot);
  const Slot& at(int slot) const { return const_cast<HeldRing*>(this)->at(slot); }
  // Gives a slot the indices of its next batch: inside the arrays, and as many as it has rows.
  void fill_indices(int slot, const py::object& given);
  void gather_on_device(Slot& slot, int number, const py::object& given);

  // Before ring_, whose thread uses their memory, so destroyed after it.
  std::vector<py::object> sources_;
  std::vector<RowSource> row_sources_;
  std::vector<Slot> slots_;
  std::int64_t rows_;
  Place place_;
  std::unique_ptr<GatherRing> ring_;  // on the host
};

}  // namespace subgrad
