#include "bindings/loading/ring.h"

#include <string>

#include "bindings/border/gil.h"
#include "bindings/cuda/backend.h"
#include "bindings/loading/batch_indices.h"

namespace subgrad {
namespace {

// An array as rows of bytes, whatever its elements are.
struct Rows {
  char* data;
  std::int64_t count;  // -1: it has no dimension
  std::int64_t stride, row_bytes;
  bool contiguous_rows, contiguous, writable;
  Place place;
};

Rows rows_of_numpy(const py::array& a) {
  Rows rows{};
  rows.data = const_cast<char*>(static_cast<const char*>(a.data()));
  rows.writable = a.writeable();
  rows.contiguous = (a.flags() & py::array::c_style) != 0;
  rows.count = a.ndim() > 0 ? a.shape(0) : -1;
  rows.stride = a.ndim() > 0 ? a.strides(0) : 0;
  rows.contiguous_rows = true;
  rows.row_bytes = a.itemsize();
  for (py::ssize_t d = a.ndim(); d-- > 1; rows.row_bytes *= a.shape(d)) {
    if (a.shape(d) != 1 && a.strides(d) != rows.row_bytes) rows.contiguous_rows = false;
  }
  return rows;
}

Rows rows_of(const py::object& object, const Where& where) {
  if (py::isinstance<py::array>(object)) return rows_of_numpy(object);
  const GenericArray a = generic_array(object, where);
  Rows rows{};
  rows.data = a.data();
  rows.writable = true;
  rows.contiguous = a.contiguous();
  rows.count = a.tensor.ndim > 0 ? a.tensor.shape[0] : -1;
  rows.stride = a.tensor.ndim > 0 ? a.row_stride() : 0;
  rows.contiguous_rows = a.contiguous_rows();
  rows.row_bytes = a.row_bytes();
  rows.place = a.place;
  return rows;
}

Where numbered(const char* argument, std::size_t i) {
  return {argument, static_cast<std::ptrdiff_t>(i)};
}

}  // namespace

bool contiguous_rows(const py::object& array) { return rows_of(array, {"array"}).contiguous_rows; }

HeldRing::HeldRing(const std::vector<py::object>& sources, std::int64_t rows, int slots,
                   const py::object& like)
    : sources_(sources),
      slots_(static_cast<std::size_t>(slots)),
      rows_(rows),
      place_(rows_of(like, {"like"}).place) {
  for (std::size_t i = 0; i < sources.size(); ++i) {
    const Where where = numbered("sources", i);
    const Rows source = rows_of(sources[i], where);
    if (source.count != rows || !source.contiguous_rows || source.place.device != place_.device) {
      throw py::value_error(where.text() + ": expected " + std::to_string(rows) +
                            " contiguous rows on " + device_text(place_.device));
    }
    if (!place_.on_host()) require_cuda(place_, where);
    row_sources_.push_back({source.data, source.stride, source.row_bytes});
  }
  if (place_.on_host()) ring_ = std::make_unique<GatherRing>(row_sources_, slots);
}

HeldRing::Slot& HeldRing::at(int slot) {
  if (slot < 0 || slot >= static_cast<int>(slots_.size())) throw py::index_error("slot");
  return slots_[static_cast<std::size_t>(slot)];
}

void HeldRing::bind(int number, const std::vector<py::object>& outputs, std::int64_t rows) {
  Slot& slot = at(number);
  if (outputs.size() != sources_.size()) throw py::value_error("outputs: one per source");
  std::vector<char*> pointers;
  std::vector<GatherArray> arrays;
  for (std::size_t i = 0; i < outputs.size(); ++i) {
    const Where where = numbered("outputs", i);
    const Rows output = rows_of(outputs[i], where);
    if (output.count != rows || !output.contiguous || !output.writable ||
        output.row_bytes != row_sources_[i].row_bytes || output.place.device != place_.device) {
      throw py::value_error(where.text() + ": does not fit its source");
    }
    pointers.push_back(output.data);
    arrays.push_back({row_sources_[i], output.data});
  }
  slot.outputs = outputs;
  slot.rows = rows;
  if (place_.on_host()) {
    ring_->bind(number, std::move(pointers), rows);
  } else {
    slot.arrays = std::move(arrays);
    slot.indices = new_on_device(place_, kDLInt64, rows);
  }
}

void HeldRing::fill_indices(int slot, const py::object& given) {
  const std::int64_t count = at(slot).rows;
  if (ring_->pending(slot)) wait(slot);
  copy_batch_indices(given, count, rows_, ring_->indices(slot));
}

void HeldRing::gather(int slot, const py::object& given) {
  if (!place_.on_host()) return gather_on_device(at(slot), slot, given);
  fill_indices(slot, given);
  const WithoutGil released;
  ring_->gather(slot);
}

void HeldRing::gather_on_device(Slot& slot, int number, const py::object& given) {
  auto* const indices = static_cast<std::int64_t*>(slot.indices.data);
  if (py::hasattr(given, "write")) {  // a sampler's span
    given.attr("write")(slot.indices.object);
  } else {
    std::vector<std::int64_t> host(static_cast<std::size_t>(slot.rows));
    copy_batch_indices(given, slot.rows, rows_, host.data());
    launch_cuda(place_, [&](const CudaApi& api, void* stream) {
      return api.send_indices(place_.device, stream, host.data(), indices, slot.rows);
    });
  }
  gather_by(number, indices);
}

void HeldRing::gather_by(int number, const std::int64_t* indices) {
  const Slot& slot = at(number);
  launch_cuda(place_, [&](const CudaApi& api, void* stream) {
    return api.gather(place_.device, stream, slot.arrays.data(), slot.arrays.size(), indices,
                      slot.rows);
  });
}

void HeldRing::submit(int slot, const py::object& given) {
  if (!place_.on_host()) return gather_on_device(at(slot), slot, given);
  fill_indices(slot, given);
  ring_->submit(slot);
}

void HeldRing::wait(int slot) {
  at(slot);
  if (!place_.on_host()) return;
  const WithoutGil released;
  ring_->wait(slot);
}

void HeldRing::cancel() {
  if (!place_.on_host()) return;
  const WithoutGil released;
  ring_->cancel();
}

py::object HeldRing::indices_on_device(int slot) const { return at(slot).indices.object; }

}  // namespace subgrad
