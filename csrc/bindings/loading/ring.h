// A ring of slots in which batches come about, wherever the arrays lie: on the host at once or
// ahead of time, on a device when they are asked for, in the stream that their library works in.
#pragma once

#include <memory>
#include <vector>

#include "bindings/border/new_arrays.h"
#include "bindings/loading/field.h"
#include "cpu/loading/ring.h"
#include "cpu/support/huge_pages.h"

namespace subgrad {

// The arrays behind the pointers of a ring are held.
class HeldRing {
 public:
  // Fields of arrays that all have so many rows, on the device of `like` (no field may have a
  // source). `pack` makes a batch of a list of arrays: None the only one of them, `tuple`, `list`,
  // or whatever can be called. Of each field's pool `spare` blocks are kept that no batch shows.
  HeldRing(std::vector<Field> fields, std::int64_t rows, int slots, int spare, py::object pack,
           const py::object& like);
  ~HeldRing();

  // A batch of the next slot. `indices`: integers of [0, rows), or on a device an object with
  // write(out), which computes them there.
  py::object gather(const py::object& indices);
  // Has it come about in the background, where there is one. Returns the slot that take() is to be
  // asked for; each may be submitted again when it has been taken.
  int submit(const py::object& indices);
  py::object take(int slot);
  // Forgets what was submitted and not taken.
  void cancel();

 private:
  struct Slot {
    std::int64_t rows = 0;
    std::vector<HeldBlock> blocks;   // of pooled fields
    std::vector<py::object> arrays;  // of others
    std::vector<GatherArray> work;   // on a device
    NewArray indices{py::none(), nullptr};
  };

  int next_slot();
  // Gives a slot the indices of its next batch, inside the arrays, and memory for it.
  void prepare(int slot, const py::object& given);
  void fill_indices(int slot, const py::object& given);
  void fill_memory(int slot);
  std::vector<ByteRun> memory() const;
  void gather_on_device(const Slot& slot) const;
  py::object batch(int slot);

  // Before ring_, whose thread uses their memory, so destroyed after it.
  std::vector<Field> fields_;
  std::vector<std::shared_ptr<BlockPool>> pools_;  // of pooled fields, else null
  std::vector<Slot> slots_;
  std::vector<std::size_t> by_kernels_;  // which fields, in the order of the ring's sources
  std::int64_t rows_;
  py::object pack_;
  Place place_;
  int last_ = -1;
  PagesInUse pages_;                  // of the host's sources
  std::unique_ptr<GatherRing> ring_;  // on the host
};

}  // namespace subgrad
