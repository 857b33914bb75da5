#include "bindings/loading/ring.h"

#include <algorithm>
#include <new>
#include <string>
#include <utility>

#include "bindings/border/gil.h"
#include "bindings/cuda/backend.h"
#include "bindings/loading/batch_indices.h"

namespace subgrad {
namespace {

Where numbered(const char* argument, std::size_t i) {
  return {argument, static_cast<std::ptrdiff_t>(i)};
}

std::size_t bytes_of(std::int64_t rows, std::int64_t row_bytes) {
  if (row_bytes > 0 && rows > PTRDIFF_MAX / row_bytes) throw std::bad_alloc();
  return static_cast<std::size_t>(rows * row_bytes);
}

std::int64_t count_of(const py::object& given) {
  const Py_ssize_t count = PyObject_Size(given.ptr());
  if (count >= 0) return count;
  if (!PyErr_ExceptionMatches(PyExc_TypeError)) throw py::error_already_set();
  PyErr_Clear();
  throw py::type_error(std::string("sampler: expected batches of indices, got ") +
                       Py_TYPE(given.ptr())->tp_name);
}

py::object packed(const py::object& pack, const std::vector<py::object>& arrays) {
  if (pack.is_none()) return arrays.at(0);
  if (pack.ptr() == reinterpret_cast<PyObject*>(&PyTuple_Type)) {
    py::tuple made(arrays.size());
    for (std::size_t i = 0; i < arrays.size(); ++i) made[i] = arrays[i];
    return std::move(made);
  }
  py::list made(arrays.size());
  for (std::size_t i = 0; i < arrays.size(); ++i) made[i] = arrays[i];
  return pack.ptr() == reinterpret_cast<PyObject*>(&PyList_Type) ? py::object(std::move(made))
                                                                 : pack(made);
}

}  // namespace

HeldRing::HeldRing(std::vector<Field> fields, std::int64_t rows, int slots, int spare,
                   py::object pack, const py::object& like)
    : fields_(std::move(fields)),
      pools_(fields_.size()),
      slots_(static_cast<std::size_t>(slots)),
      rows_(rows),
      pack_(std::move(pack)),
      place_(rows_of(like, {"like"}).place) {
  huge_pages();  // throws for a setting that is none
  std::vector<RowSource> sources;
  for (std::size_t i = 0; i < fields_.size(); ++i) {
    if (!fields_[i].by_kernels()) continue;
    const Where where = numbered("fields", i);
    const ArrayRows& source = fields_[i].rows();
    require_source(source, rows, place_.device, where);
    if (!place_.on_host()) require_cuda(place_, where);
    if (fields_[i].shown()) {
      pools_[i] = std::make_shared<BlockPool>(static_cast<std::size_t>(spare));
    }
    sources.push_back(source.source());
    by_kernels_.push_back(i);
  }
  for (Slot& slot : slots_) {
    slot.blocks.resize(fields_.size());
    slot.arrays.resize(fields_.size());
    slot.work.resize(place_.on_host() ? 0 : by_kernels_.size());
  }
  if (place_.on_host()) ring_ = std::make_unique<GatherRing>(sources, slots);
}

HeldRing::~HeldRing() {
  for (const auto& pool : pools_) {
    if (pool) pool->close();
  }
}

int HeldRing::next_slot() { return last_ = (last_ + 1) % static_cast<int>(slots_.size()); }

void HeldRing::prepare(int slot, const py::object& given) {
  if (place_.on_host() && ring_->pending(slot)) throw std::runtime_error("slot: not taken yet");
  fill_indices(slot, given);
  fill_memory(slot);
}

void HeldRing::fill_indices(int number, const py::object& given) {
  Slot& slot = slots_[static_cast<std::size_t>(number)];
  slot.rows = count_of(given);
  if (place_.on_host()) {
    ring_->prepare(number, slot.rows);
    return copy_batch_indices(given, slot.rows, rows_, ring_->indices(number));
  }
  slot.indices = new_on_device(place_, kDLInt64, slot.rows);
  if (py::hasattr(given, "write")) {  // a sampler's span
    given.attr("write")(slot.indices.object);
    return;
  }
  std::vector<std::int64_t> host(static_cast<std::size_t>(slot.rows));
  copy_batch_indices(given, slot.rows, rows_, host.data());
  launch_cuda(place_, [&](const CudaApi& api, void* stream) {
    return api.send_indices(place_.device, stream, host.data(),
                            static_cast<std::int64_t*>(slot.indices.data), slot.rows);
  });
}

void HeldRing::fill_memory(int number) {
  Slot& slot = slots_[static_cast<std::size_t>(number)];
  char** const outputs = place_.on_host() ? ring_->prepare(number, slot.rows) : nullptr;
  std::size_t at = 0;
  for (std::size_t i = 0; i < fields_.size(); ++i) {
    const Field& field = fields_[i];
    if (!field.by_kernels()) continue;
    char* data;
    if (pools_[i]) {
      slot.blocks[i] = pools_[i]->take(bytes_of(slot.rows, field.rows().row_bytes));
      data = slot.blocks[i]->memory.data();
    } else {
      const auto made = field.make()(slot.rows).cast<py::tuple>();
      const ArrayRows memory = rows_of(made[1], numbered("fields", i));
      require_fit(memory, field.rows(), slot.rows, numbered("fields", i));
      slot.arrays[i] = made[0];
      data = memory.data;
    }
    if (place_.on_host()) {
      outputs[at++] = data;
    } else {
      slot.work[at++] = {field.rows().source(), data};
    }
  }
  for (std::size_t i = 0; i < fields_.size(); ++i) {
    if (fields_[i].by_kernels()) continue;
    if (place_.on_host()) {
      const std::int64_t* const indices = ring_->indices(number);
      slot.arrays[i] = fields_[i].index()(py::array_t<std::int64_t>(slot.rows, indices));
    } else {
      slot.arrays[i] = fields_[i].index()(slot.indices.object);
    }
  }
}

// Of the sources that are read row by row, from the first byte to the last.
std::vector<ByteRun> HeldRing::memory() const {
  std::vector<ByteRun> runs;
  for (const std::size_t i : by_kernels_) {
    const ArrayRows& rows = fields_[i].rows();
    if (rows.count <= 0 || rows.stride < 0) continue;
    runs.push_back({rows.data, (rows.count - 1) * rows.stride + rows.row_bytes});
  }
  return runs;
}

void HeldRing::gather_on_device(const Slot& slot) const {
  launch_cuda(place_, [&](const CudaApi& api, void* stream) {
    return api.gather(place_.device, stream, slot.work.data(), slot.work.size(),
                      static_cast<const std::int64_t*>(slot.indices.data), slot.rows);
  });
}

py::object HeldRing::batch(int number) {
  Slot& slot = slots_[static_cast<std::size_t>(number)];
  std::vector<py::object> arrays(fields_.size());
  for (std::size_t i = 0; i < fields_.size(); ++i) {
    arrays[i] = pools_[i] ? (*fields_[i].shown())(std::move(slot.blocks[i]), slot.rows)
                          : std::exchange(slot.arrays[i], py::object());
  }
  return packed(pack_, arrays);
}

py::object HeldRing::gather(const py::object& given) {
  const int slot = next_slot();
  prepare(slot, given);
  if (place_.on_host()) {
    const WithoutGil released;
    pages_.timed([&] { ring_->gather(slot); }, [&] { return memory(); });
  } else {
    gather_on_device(slots_[static_cast<std::size_t>(slot)]);
  }
  return batch(slot);
}

int HeldRing::submit(const py::object& given) {
  const int slot = next_slot();
  prepare(slot, given);
  if (place_.on_host()) {
    ring_->submit(slot);
  } else {
    gather_on_device(slots_[static_cast<std::size_t>(slot)]);
  }
  return slot;
}

py::object HeldRing::take(int slot) {
  if (slot < 0 || slot >= static_cast<int>(slots_.size())) throw py::index_error("slot");
  if (place_.on_host()) {
    if (!ring_->pending(slot)) throw std::runtime_error("slot: nothing was submitted");
    const WithoutGil released;
    pages_.timed([&] { ring_->wait(slot); }, [&] { return memory(); });
  }
  return batch(slot);
}

void HeldRing::cancel() {
  if (place_.on_host()) {
    const WithoutGil released;
    ring_->cancel();
  }
  for (Slot& slot : slots_) {
    for (HeldBlock& block : slot.blocks) block.reset();
    for (py::object& array : slot.arrays) array = py::object();
  }
}

}  // namespace subgrad
