#include "bindings/border/new_arrays.h"

#include <stdexcept>
#include <string>

namespace subgrad {
namespace {

void keep_message(void* context, const char* kind, const char* message) {
  *static_cast<std::string*>(context) = std::string(kind) + ": " + message;
}

// The module of a torch tensor's type; its import is a look-up, since there is a tensor.
py::module_ torch() { return py::module_::import("torch"); }

py::object numpy_of(const py::object& like, Source source) {
  if (source == Source::numpy) return like;
  return py::module_::import("numpy").attr("from_dlpack")(like);
}

}  // namespace

DLDataType dl_type(DType type) {
  const auto bits = static_cast<std::uint8_t>(8 * size_of(type));
  return {type == DType::bf16 ? kDLBfloat : kDLFloat, bits, 1};
}

NewArray new_on_device(const Place& place, DLDataType type, std::int64_t count) {
  DLTensor prototype = {};
  prototype.device = {kDLCUDA, place.device};
  prototype.ndim = 1;
  prototype.dtype = type;
  prototype.shape = &count;
  DLManagedTensorVersioned* made = nullptr;
  std::string message;
  const DLPackExchangeAPI& api = *place.library;
  if (api.managed_tensor_allocator == nullptr ||
      api.managed_tensor_to_py_object_no_sync == nullptr) {
    throw std::runtime_error("the library of the arrays on " + device_text(place.device) +
                             " makes none for others");
  }
  if (api.managed_tensor_allocator(&prototype, &made, &message, &keep_message) != 0) {
    if (PyErr_Occurred()) throw py::error_already_set();
    throw std::runtime_error("no memory on " + device_text(place.device) + ": " + message);
  }
  void* const data = static_cast<char*>(made->dl_tensor.data) + made->dl_tensor.byte_offset;
  void* object = nullptr;
  if (api.managed_tensor_to_py_object_no_sync(made, &object) != 0) throw py::error_already_set();
  return {py::reinterpret_steal<py::object>(static_cast<PyObject*>(object)), data};
}

py::list read_numbers(const py::object& array) { return array.attr("tolist")(); }

py::object in_library(Source source, const py::array& array) {
  return is_torch(source) ? torch().attr("from_numpy")(array) : py::object(array);
}

py::object as_elements_of(const py::object& like, Source source, const py::array& bits) {
  if (!is_torch(source)) return bits.attr("view")(numpy_of(like, source).attr("dtype"));
  // Older versions of torch have no unsigned integers but bytes.
  const py::object integers = bits.attr("view")("i" + std::to_string(bits.itemsize()));
  return torch().attr("from_numpy")(integers).attr("view")(like.attr("dtype"));
}

}  // namespace subgrad
