// The view of one array, by each of the doors there are.
#include "bindings/border/arrays.h"

#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include <algorithm>

namespace subgrad {
namespace {

constexpr const char* kDTypeNames = "float32, float64, bfloat16 or float16";

[[noreturn]] void type_error(const Where& where, const std::string& text) {
  throw py::type_error(where.text() + ": " + text);
}
[[noreturn]] void value_error(const Where& where, const std::string& text) {
  throw py::value_error(where.text() + ": " + text);
}
[[noreturn]] void dtype_error(const Where& where, const std::string& got) {
  type_error(where, std::string("expected ") + kDTypeNames + ", got " + got);
}

bool float_dtype(const std::string& name, DType& out) {
  for (int i = 0; i < kDTypes; ++i) {
    if (name == name_of(static_cast<DType>(i))) {
      out = static_cast<DType>(i);
      return true;
    }
  }
  return false;
}

bool float_dtype(const DLDataType& t, DType& out) {
  if (t.lanes != 1) return false;
  if (t.code == kDLFloat && t.bits == 32) return out = DType::f32, true;
  if (t.code == kDLFloat && t.bits == 64) return out = DType::f64, true;
  if (t.code == kDLFloat && t.bits == 16) return out = DType::f16, true;
  if (t.code == kDLBfloat && t.bits == 16) return out = DType::bf16, true;
  return false;
}

// Shape and strides of our own, for objects that only hand them out as Python integers or on loan.
struct OwnedExtents {
  std::vector<std::int64_t> shape, strides;
  py::object loan;  // the capsule that keeps a producer's memory, if there is one
};

void own_extents(ArrayView& view, std::vector<std::int64_t> shape,
                 std::vector<std::int64_t> strides, py::object loan = {}) {
  auto extents = std::make_shared<OwnedExtents>(
      OwnedExtents{std::move(shape), std::move(strides), std::move(loan)});
  view.ndim = static_cast<int>(extents->shape.size());
  view.shape = extents->shape.data();
  view.strides = extents->strides.data();
  view.owned = std::move(extents);
}

// --- NumPy ---------------------------------------------------------------------------------------

ArrayView view_numpy(py::handle object, const Where& where) {
  if (has_mask(object)) type_error(where, kMaskedArray);
  const auto array = py::reinterpret_borrow<py::array>(object);
  const py::dtype dtype = array.dtype();
  ArrayView view;
  constexpr int kNumpyFloat = 11, kNumpyDouble = 12, kNumpyHalf = 23, kFirstUserType = 256;
  const int number = dtype.num();
  if (number == kNumpyFloat) {
    view.dtype = DType::f32;
  } else if (number == kNumpyDouble) {
    view.dtype = DType::f64;
  } else if (number == kNumpyHalf) {
    view.dtype = DType::f16;
  } else if (number >= kFirstUserType && std::string(py::str(dtype.attr("name"))) == "bfloat16") {
    view.dtype = DType::bf16;  // ml_dtypes.bfloat16
  } else {
    dtype_error(where, py::str(dtype.attr("name")));
  }
  if (number < kFirstUserType && dtype.byteorder() != '=') {
    type_error(where, "expected native byte order, got " + std::string(py::str(dtype)));
  }
  static_assert(sizeof(py::ssize_t) == sizeof(std::int64_t), "a 64-bit platform");
  view.source = Source::numpy;
  view.data = const_cast<char*>(static_cast<const char*>(array.data()));
  view.ndim = static_cast<int>(array.ndim());
  view.shape = reinterpret_cast<const std::int64_t*>(array.shape());
  view.strides = reinterpret_cast<const std::int64_t*>(array.strides());
  view.writable = array.writeable();
  return view;
}

// --- DLPack --------------------------------------------------------------------------------------

// Fills a view from a DLTensor whose shape and strides outlive it. False for an unsupported dtype.
bool view_dltensor(const DLTensor& t, ArrayView& view) {
  if (!float_dtype(t.dtype, view.dtype)) return false;
  view.data = static_cast<char*>(t.data) + (t.data != nullptr ? t.byte_offset : 0);
  view.ndim = t.ndim;
  view.shape = t.shape;
  view.strides = t.strides;
  view.stride_unit = view.itemsize();
  return true;
}

// Whether the caller can work on this device's memory; its number. Pinned memory is the host's;
// managed memory is treated as that of the device it is said to be on.
bool reach(const DLDevice& device, Memory memory, int& number) {
  const std::int32_t type = device.device_type;
  const bool host = type == kDLCPU || type == kDLCUDAHost;
  number = host ? kHost : device.device_id;
  return host || (memory == Memory::any && (type == kDLCUDA || type == kDLCUDAManaged));
}

const char* expected_memory(Memory memory) {
  return memory == Memory::host ? "expected CPU memory" : "expected CPU or CUDA memory";
}

// Copies the extents of a view; without strides it is compact and row-major.
void copy_extents(ArrayView& view, py::object loan = {}) {
  std::vector<std::int64_t> shape(view.shape, view.shape + view.ndim);
  std::vector<std::int64_t> strides(shape.size());
  std::int64_t stride = 1;
  for (std::size_t d = shape.size(); d-- > 0; stride *= shape[d]) {
    strides[d] = view.strides != nullptr ? view.strides[d] : stride;
  }
  own_extents(view, std::move(shape), std::move(strides), std::move(loan));
}

// NULL with elements: DTensor, FakeTensor, functional tensors and freed storage all "succeed" so.
void require_memory(const ArrayView& view, const Where& where, py::handle object = {}) {
  const bool none = object ? is_freed(object, view.data, view.itemsize()) : view.data == nullptr;
  if (none && view.size() > 0) {
    value_error(where,
                "has no memory of its own (a fake, functional, distributed or freed tensor)");
  }
}

std::string dl_dtype_text(const DLDataType& t) {
  static constexpr const char* kinds[] = {"int",    "uint",    "float", "handle",
                                          "bfloat", "complex", "bool"};
  return (t.code < 7 ? kinds[t.code] : "type") + std::to_string(t.bits);
}

ArrayView view_exchange(py::handle object, const Where& where, Memory memory) {
  const DLPackExchangeAPI* api = exchange_api(Py_TYPE(object.ptr()));
  ArrayView quick;
  if (quick_view(api, object.ptr(), quick, memory) == Quick::ok && !has_negation(object)) {
    return quick;
  }
  // It is refused, or has no strides: a closer look, for the message.
  if (!has_strided_layout(object)) {
    type_error(where, "expected a dense tensor, got layout " +
                          std::string(py::str(object.attr("layout"))));
  }
  DLTensor t;
  const bool reached = api->dltensor_from_py_object_no_sync(object.ptr(), &t) == 0;
  std::string cause;
  if (!reached) {
    cause = py::error_already_set().what();
    cause.resize(std::min(cause.find('\n'), cause.size()));  // torch appends a C++ stack trace
  }
  ArrayView view;
  if (!reached || !reach(t.device, memory, view.device)) {
    const std::string device = py::str(py::getattr(object, "device", py::str("cpu")));
    if (device != "cpu") {
      value_error(where, std::string(expected_memory(memory)) + ", got a tensor on " + device);
    }
    type_error(where, "its memory cannot be reached: " + cause);
  }
  view.source = Source::exchange;
  view.api = api;
  if (!view_dltensor(t, view)) dtype_error(where, dl_dtype_text(t.dtype));
  if (view.strides == nullptr) copy_extents(view);
  require_memory(view, where, object);
  if (has_negation(object))
    value_error(where, "is a negated view; call .resolve_neg() on it first");
  return view;
}

// A capsule may say anything: its tensor is looked at before it is believed.
void check_capsule(const DLTensor& t, std::uint32_t major, const Where& where) {
  constexpr int kMostDims = 64;
  bool sound = major == 1 && t.ndim >= 0 && t.ndim <= kMostDims;
  sound = sound && (t.ndim == 0 || t.shape != nullptr);
  for (int d = 0; sound && d < t.ndim; ++d) sound = t.shape[d] >= 0;
  if (!sound) type_error(where, "its DLPack capsule holds no tensor that can be read");
  if (t.device.device_type != kDLCPU) value_error(where, "expected CPU memory");
}

// Whether an object that shows its memory by Python's buffer protocol as well shows it read-only
// there, as libraries whose arrays do not change do.
bool shows_read_only(py::handle object) {
  if (PyObject_CheckBuffer(object.ptr()) == 0) return false;
  Py_buffer buffer;
  if (PyObject_GetBuffer(object.ptr(), &buffer, PyBUF_FULL_RO) != 0) {
    PyErr_Clear();
    return false;
  }
  const bool read_only = buffer.readonly != 0;
  PyBuffer_Release(&buffer);
  return read_only;
}

ArrayView view_capsule(py::handle object, const Where& where) {
  if (object.attr("__dlpack_device__")().cast<py::tuple>()[0].cast<int>() != kDLCPU) {
    value_error(where, "expected CPU memory");
  }
  py::object capsule;
  try {
    capsule = object.attr("__dlpack__")(py::arg("max_version") = py::make_tuple(1, 0));
  } catch (py::error_already_set& e) {
    if (!e.matches(PyExc_TypeError)) throw;
    capsule = object.attr("__dlpack__")();  // a producer older than DLPack 1.0
  }
  ArrayView view;
  const DLTensor* t = nullptr;
  // A capsule that is not renamed keeps its deleter: it frees the loan together with our view.
  if (auto* m = PyCapsule_IsValid(capsule.ptr(), "dltensor_versioned")
                    ? static_cast<DLManagedTensorVersioned*>(
                          PyCapsule_GetPointer(capsule.ptr(), "dltensor_versioned"))
                    : nullptr) {
    t = &m->dl_tensor;
    check_capsule(*t, m->version.major, where);
    view.writable = (m->flags & kDLPackFlagReadOnly) == 0;
  } else if (auto* old =
                 static_cast<DLManagedTensor*>(PyCapsule_GetPointer(capsule.ptr(), "dltensor"))) {
    t = &old->dl_tensor;
    check_capsule(*t, 1, where);
    view.writable = !shows_read_only(object);  // this version does not say so
  } else {
    throw py::error_already_set();
  }
  view.source = Source::dlpack;
  if (!view_dltensor(*t, view)) dtype_error(where, dl_dtype_text(t->dtype));
  copy_extents(view, std::move(capsule));
  require_memory(view, where);
  return view;
}

// --- torch before 2.10: its Python attributes
// ------------------------------------------------------

ArrayView view_attributes(py::handle object, const Where& where) {
  const std::string layout = py::str(object.attr("layout"));
  if (layout != "torch.strided") type_error(where, "expected a dense tensor, got layout " + layout);
  const std::string device = py::str(object.attr("device").attr("type"));
  if (device != "cpu") value_error(where, "expected CPU memory, got a tensor on " + device);
  std::string dtype = py::str(object.attr("dtype"));
  if (dtype.rfind("torch.", 0) == 0) dtype = dtype.substr(6);
  ArrayView view;
  view.source = Source::attributes;
  if (!float_dtype(dtype, view.dtype)) dtype_error(where, dtype);
  own_extents(view, object.attr("shape").cast<std::vector<std::int64_t>>(),
              object.attr("stride")().cast<std::vector<std::int64_t>>());
  view.stride_unit = view.itemsize();
  view.data = reinterpret_cast<char*>(object.attr("data_ptr")().cast<std::uintptr_t>());
  require_memory(view, where, object);
  if (has_negation(object))
    value_error(where, "is a negated view; call .resolve_neg() on it first");
  return view;
}

}  // namespace

std::string Where::text() const {
  return index < 0 ? std::string(argument) : argument + ("[" + std::to_string(index) + "]");
}

std::string device_text(int device) {
  return device == kHost ? "cpu" : "cuda:" + std::to_string(device);
}

std::string shape_text(int ndim, const std::int64_t* shape) {
  std::string text = "(";
  for (int d = 0; d < ndim; ++d) {
    text += std::to_string(shape[d]);
    if (d + 1 < ndim || ndim == 1) text += d + 1 < ndim ? ", " : ",";
  }
  return text + ")";
}

std::int64_t ArrayView::size() const {
  std::int64_t n = 1;
  for (int d = 0; d < ndim; ++d) n *= shape[d];
  return n;
}

std::string ArrayView::describe() const {
  return std::string(name_of(dtype)) + " of shape " + shape_text(ndim, shape);
}

Quick quick_view(const DLPackExchangeAPI* api, PyObject* object, ArrayView& view, Memory memory) {
  DLTensor t;
  if (api->dltensor_from_py_object_no_sync(object, &t) != 0) {
    PyErr_Clear();
    return Quick::other;
  }
  view.source = Source::exchange;
  view.api = api;
  if (!reach(t.device, memory, view.device) || !view_dltensor(t, view) || t.strides == nullptr)
    return Quick::other;
  const bool none = is_freed(object, view.data, view.itemsize()) && view.size() > 0;
  return none ? Quick::no_memory : Quick::ok;
}

ArrayView view_array(py::handle object, const Where& where, Memory memory) {
  switch (source_of(object)) {
    case Source::numpy:
      return view_numpy(object, where);
    case Source::exchange:
      return view_exchange(object, where, memory);
    case Source::attributes:
      return view_attributes(object, where);
    case Source::dlpack:
      return view_capsule(object, where);
    case Source::unknown:
      break;
  }
  type_error(where, "expected a NumPy array or torch tensor, got " +
                        std::string(Py_TYPE(object.ptr())->tp_name));
}

}  // namespace subgrad
