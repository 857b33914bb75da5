#include "bindings/loading/shown.h"

#include <utility>

#include "bindings/border/generic_array.h"

namespace subgrad {
namespace {

constexpr const char* kOwner = "subgrad_fast.batch";

// What a tensor's library holds, and lets go of from any thread, without the GIL.
struct ShownBlock {
  DLManagedTensorVersioned managed{};
  PoolBlock* block;
  std::vector<std::int64_t> extents;  // shape, then strides

  static void release(DLManagedTensorVersioned* managed) {
    auto* const held = static_cast<ShownBlock*>(managed->manager_ctx);
    GiveBack()(held->block);
    delete held;
  }
};

}  // namespace

ShownLike::ShownLike(const py::object& like, const py::array& raw, py::object wrap)
    : shape_(raw.shape(), raw.shape() + raw.ndim()),
      strides_(shape_.size(), 1),
      dtype_(raw.dtype()),
      wrap_(std::move(wrap)) {
  for (std::size_t d = shape_.size(); d-- > 1;) strides_[d - 1] = strides_[d] * shape_[d];
  const DLPackExchangeAPI* const api = exchange_api(Py_TYPE(like.ptr()));
  if (api == nullptr || api->managed_tensor_to_py_object_no_sync == nullptr) return;
  type_ = generic_array(like, {"like"}).tensor.dtype;
  library_ = api;
}

py::object ShownLike::operator()(HeldBlock block, std::int64_t rows) const {
  return library_ != nullptr ? tensor(std::move(block), rows) : array(std::move(block), rows);
}

py::object ShownLike::array(HeldBlock block, std::int64_t rows) const {
  std::vector<py::ssize_t> shape(shape_.begin(), shape_.end());
  shape[0] = rows;
  const char* const data = block->memory.data();
  PoolBlock* const shown = BlockPool::show(std::move(block));
  const auto owner =
      py::reinterpret_steal<py::object>(PyCapsule_New(shown, kOwner, [](PyObject* capsule) {
        GiveBack()(static_cast<PoolBlock*>(PyCapsule_GetPointer(capsule, kOwner)));
      }));
  if (!owner) {
    GiveBack()(shown);
    throw py::error_already_set();
  }
  py::array made(dtype_, std::move(shape), data, owner);
  return wrap_.is_none() ? py::object(std::move(made)) : wrap_(made);
}

py::object ShownLike::tensor(HeldBlock block, std::int64_t rows) const {
  auto* const held = new ShownBlock;
  held->extents = shape_;
  held->extents[0] = rows;
  held->extents.insert(held->extents.end(), strides_.begin(), strides_.end());
  held->managed.version = {1, 1};
  held->managed.manager_ctx = held;
  held->managed.deleter = &ShownBlock::release;
  DLTensor& t = held->managed.dl_tensor;
  t.data = block->memory.data();
  t.device = {kDLCPU, 0};
  t.ndim = static_cast<std::int32_t>(shape_.size());
  t.dtype = type_;
  t.shape = held->extents.data();
  t.strides = t.shape + t.ndim;
  held->block = BlockPool::show(std::move(block));
  void* made = nullptr;
  if (library_->managed_tensor_to_py_object_no_sync(&held->managed, &made) != 0) {
    throw py::error_already_set();
  }
  return py::reinterpret_steal<py::object>(static_cast<PyObject*>(made));
}

}  // namespace subgrad
