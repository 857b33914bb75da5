// The border: a NumPy array, torch tensor or other DLPack producer becomes an ArrayView, checked
// once, and errors name the argument, its index and what was expected.
#pragma once

#include <pybind11/pybind11.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "bindings/border/dlpack.h"
#include "core/types.h"

namespace subgrad {

namespace py = pybind11;

// Which argument an array came in as, for messages: params[3], or grads alone (index -1).
struct Where {
  const char* argument;
  std::ptrdiff_t index = -1;
  std::string text() const;
};

// How the elements of a Python object are reached, decided once per type.
enum class Source : std::uint8_t { numpy, exchange, attributes, dlpack, unknown };

// Where an array's memory is: the number of a CUDA device, or this.
inline constexpr int kHost = -1;
std::string device_text(int device);  // "cuda:0", "cpu"

// Which memory a caller can work on.
enum class Memory : std::uint8_t { host, any };

struct ArrayView {
  char* data = nullptr;
  int device = kHost;
  DType dtype = DType::f32;
  int ndim = 0;
  const std::int64_t* shape = nullptr;
  const std::int64_t* strides = nullptr;  // in units of stride_unit bytes
  std::int64_t stride_unit = 1;
  bool writable = true;
  Source source = Source::unknown;
  const DLPackExchangeAPI* api = nullptr;  // the library's, where it came from there
  std::shared_ptr<void> owned;  // shape and strides, where the object does not hold them itself

  std::int64_t size() const;  // elements
  std::int64_t itemsize() const { return static_cast<std::int64_t>(size_of(dtype)); }
  std::string describe() const;  // "float32 of shape (3, 4)"
};

// What is said of a NumPy array with a mask, wherever it comes in.
inline constexpr const char* kMaskedArray =
    "is a masked array, and its mask would be lost; pass its data or what filled() makes of it";

// Whether an array of a subclass of NumPy's has a mask: memory alone does not say what it holds.
// (Of other subclasses, such as numpy.matrix, the elements are those in memory.)
bool has_mask(py::handle array);

Source source_of(py::handle object);
inline bool is_torch(Source s) { return s == Source::exchange || s == Source::attributes; }
bool has_version(py::handle object);  // torch's tensors: writes to them are to be announced

// The view of an array, valid while the object lives and the GIL is held. Raises TypeError (not an
// array, unsupported dtype or layout) or ValueError (another device, no memory behind it, pending
// negation). Only callers that ask for any memory may get a GPU's.
ArrayView view_array(py::handle object, const Where& where, Memory memory = Memory::host);

// The exchange table of a torch type (null: not offered, or switched off by a test), and the quick
// view through it, about 50 ns. It does not see a pending negation; has_negation asks for that.
enum class Quick { ok, no_memory, other };  // other: view_array must look closer, or would raise
const DLPackExchangeAPI* exchange_api(PyTypeObject* type);
Quick quick_view(const DLPackExchangeAPI* api, PyObject* object, ArrayView& view,
                 Memory memory = Memory::host);
bool has_negation(py::handle tensor);
bool is_inference(py::handle tensor);  // of torch.inference_mode
bool requires_grad(py::handle tensor);

// The C functions behind an attribute of a type, to be called without the look-up that an attribute
// costs; null where the type has code of its own for attributes, or this is none of C's.
PyGetSetDef* attribute_behind(PyTypeObject* type, const char* name);

// Whether a tensor's storage has been freed: its address is then the offset into it, and not null
// for a view.
bool is_freed(py::handle tensor, const void* data, std::int64_t itemsize);
bool has_strided_layout(
    py::handle tensor);  // asked first: the C error for sparse costs a millisecond

// Switches the exchange table off, so that the path of torch < 2.10 can be tested; returns the old
// value.
bool use_exchange_api(bool on);

std::string shape_text(int ndim, const std::int64_t* shape);

// One array, or a list, tuple or iterator of arrays, held for as long as the list lives; raises
// TypeError for anything else.
struct ArrayList {
  std::vector<py::object> items;
  bool single = false;
  Where where(const char* argument, std::size_t i) const {
    return {argument, single ? -1 : static_cast<std::ptrdiff_t>(i)};
  }
};
ArrayList array_list(py::handle argument, const char* name);

// Throws ValueError for a list that is not as long as the list of parameters.
void require_length(const ArrayList& list, const char* name, std::size_t wanted);

// torch.autograd.graph.increment_version on a list of tensors: raw writes are invisible to autograd
// otherwise.
void increment_versions(py::handle tensors);

}  // namespace subgrad
