// Where a tensor lies, told without a call of its library's. A tensor may change what lies beneath
// it without a trace on its Python object (`a.data, b.data = b.data, a.data`, set_(), t_(),
// share_memory_(), swap_tensors()), so that a plan has to ask every tensor at every step; for
// hundreds of small tensors the answers of a library would cost as much as the step.
#pragma once

#include <pybind11/pybind11.h>

#include <cstdint>
#include <cstring>

#include "bindings/border/dlpack.h"
#include "bindings/optimizer/tensor_hints.h"
#include "core/macros.h"

namespace subgrad {

// The words in which torch's C++ object of a tensor says where it lies, as they once were. No
// release of torch promises their order, so it is tried out on tensors that differ in one of them
// (tensor_mark.cpp); where it is another one, no tensor has a mark, and its library is asked.
class TensorMark {
 public:
  TensorMark() = default;  // none
  // The tensor is kept alive by the caller; so it has an object, and that one a storage.
  TensorMark(PyObject* tensor, const DLPackExchangeAPI* api);

  explicit operator bool() const { return tensor_ != nullptr; }

  // Whether the tensor's memory, dtype, shape, strides and pending negation are what they were.
  SGF_INLINE bool same() const {
    const char* const object = behind(tensor_);
    if (object != object_) return false;
    const char* const storage = pointer(object, kStorage);
    return storage == storage_ && pointer(storage, kMemory) == memory_ &&
           std::memcmp(object + kFirst * sizeof(Word), words_, sizeof words_) == 0;
  }

  // Hints for those who are about to ask (tensor_hints.h says why): first the Python object, then
  // what it leads to.
  SGF_INLINE void hint_tensor() const { SGF_PREFETCH(tensor_); }
  SGF_INLINE void hint_object() const {
    SGF_PREFETCH(object_);
    SGF_PREFETCH(object_ + 64);
    SGF_PREFETCH(object_ + 128);
    SGF_PREFETCH(storage_);
  }

  // Whether torch keeps its tensors as is known here.
  static bool known() { return negation() != 0; }

  // Which dispatch key says that a tensor's negation is pending; 0: its library is to be asked.
  using Word = std::uint64_t;
  static Word negation();

  // Whether a tensor has this key.
  static SGF_INLINE bool has_key(PyObject* tensor, Word key) {
    Word keys;
    std::memcpy(&keys, behind(tensor) + (kFirst + kKeys) * int{sizeof(Word)}, sizeof keys);
    return (keys & key) != 0;
  }

 private:
  // In words from the beginning of an object: a tensor's storage, a storage's memory; the number of
  // dimensions, five sizes and five strides, the offset into the storage, the number of elements,
  // element type and device, dispatch keys.
  static constexpr int kStorage = 2, kMemory = 2, kFirst = 7, kWords = 15;
  static constexpr int kSizes = 1, kStrides = 6, kOffset = 11, kTypes = 13, kKeys = 14;

  static SGF_INLINE const char* pointer(const char* object, int word) {
    const char* found;
    std::memcpy(&found, object + word * int{sizeof(Word)}, sizeof found);
    return found;
  }
  static Word tried_out();
  void read(PyObject* tensor);

  PyObject* tensor_ = nullptr;
  const char *object_ = nullptr, *storage_ = nullptr, *memory_ = nullptr;
  Word words_[kWords] = {};
};

// The mark of a tensor; none of null.
TensorMark mark_of(const pybind11::object& tensor);

}  // namespace subgrad
