#include "bindings/border/buffers.h"

#include <cstdlib>
#include <memory>
#include <mutex>
#include <new>
#include <unordered_map>
#include <vector>

#include "bindings/border/extents.h"
#include "bindings/border/new_arrays.h"
#include "cpu/support/fork_mutex.h"
#include "cpu/support/pages.h"

namespace subgrad {
namespace {

constexpr std::size_t kAlignment = 64;  // a cache line, a full register
constexpr std::size_t kLarge = 2 << 20;

struct Registry {
  ForkMutex<std::mutex> mutex;
  std::unordered_map<const void*, std::weak_ptr<void>> memory;
};
Registry& registry() {
  static auto* r = new Registry();  // never destroyed: tensors may outlive static objects
  return *r;
}

// calloc has fresh pages from the system, which are zeros already, and knows it.
std::shared_ptr<void> allocate(std::size_t bytes, bool zeros) {
#if defined(__linux__)
  if (bytes >= kLarge) {  // fresh from the system, so zeros, and on huge pages where there are any
    const auto pages = std::make_shared<Pages>(bytes);
    return {pages, pages->data()};
  }
#endif
  std::size_t room = bytes + kAlignment;
  void* p = zeros ? std::calloc(room, 1) : std::malloc(room);
  if (p == nullptr) throw std::bad_alloc();
  const std::shared_ptr<void> owner(p, std::free);
  return {owner, std::align(kAlignment, bytes, p, room)};
}

// What DLPack's deleter gets: called by whoever holds the tensor, from any thread, without the GIL.
struct Loan {
  DLManagedTensor managed{};
  std::shared_ptr<void> memory;
  std::vector<std::int64_t> shape, strides;

  static void release(DLManagedTensor* managed) {
    auto* loan = static_cast<Loan*>(managed->manager_ctx);
    Registry& r = registry();
    {
      const std::lock_guard<std::mutex> lock(r.mutex.get());
      r.memory.erase(loan->memory.get());
    }
    delete loan;
  }
};

}  // namespace

py::capsule new_buffer(py::handle like, bool zeros) {
  const Extents extents(view_array(like, {"like"}));
  auto loan = std::make_unique<Loan>();
  loan->memory = allocate(static_cast<std::size_t>(extents.size * extents.itemsize()), zeros);
  loan->shape.assign(extents.shape.data(), extents.shape.data() + extents.ndim());
  loan->strides.resize(loan->shape.size());
  std::int64_t row_major = 1;
  for (std::size_t d = loan->shape.size(); d-- > 0; row_major *= loan->shape[d]) {
    loan->strides[d] =
        extents.dense() ? extents.strides[static_cast<int>(d)] / extents.itemsize() : row_major;
  }
  DLTensor& t = loan->managed.dl_tensor;
  t.data = loan->memory.get();
  t.device = {kDLCPU, 0};
  t.ndim = extents.ndim();
  t.dtype = dl_type(extents.dtype);
  t.shape = loan->shape.data();
  t.strides = loan->strides.data();
  loan->managed.manager_ctx = loan.get();
  loan->managed.deleter = &Loan::release;
  {
    const std::lock_guard<std::mutex> lock(registry().mutex.get());
    registry().memory[t.data] = loan->memory;
  }
  // A consumer renames the capsule and calls the deleter itself; otherwise that is left to the
  // capsule.
  PyObject* capsule = PyCapsule_New(&loan->managed, "dltensor", [](PyObject* self) {
    if (!PyCapsule_IsValid(self, "dltensor")) return;
    auto* managed = static_cast<DLManagedTensor*>(PyCapsule_GetPointer(self, "dltensor"));
    managed->deleter(managed);
  });
  if (capsule == nullptr) throw py::error_already_set();
  loan.release();
  return py::reinterpret_steal<py::capsule>(capsule);
}

std::shared_ptr<void> find_buffer(const void* data) {
  Registry& r = registry();
  const std::lock_guard<std::mutex> lock(r.mutex.get());
  const auto it = r.memory.find(data);
  return it == r.memory.end() ? nullptr : it->second.lock();
}

}  // namespace subgrad
