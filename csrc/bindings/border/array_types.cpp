// What kind of array a Python object is, remembered per type; lists of arrays; version counters.
#include <pybind11/numpy.h>

#include <unordered_map>
#include <utility>

#include "bindings/border/arrays.h"

namespace subgrad {
namespace {

struct TypeInfo {
  Source source;
  const DLPackExchangeAPI* api;
  bool versioned;
  bool masked;  // a NumPy array's subclass with a mask
  bool scalar;  // NumPy's
  // The C functions behind these methods and attributes; null: they are none, or others.
  PyCFunction is_neg, is_inference, storage_offset;
  PyGetSetDef *layout, *requires_grad;
};

bool exchange_on = true;

// Reads `__dlpack_c_exchange_api__` of a type: null where there is none, or none of version 1.
const DLPackExchangeAPI* find_exchange_api(py::handle type) {
  if (!py::hasattr(type, "__dlpack_c_exchange_api__")) return nullptr;
  const py::object capsule = type.attr("__dlpack_c_exchange_api__");
  auto* api = static_cast<const DLPackExchangeAPI*>(
      PyCapsule_GetPointer(capsule.ptr(), "dlpack_exchange_api"));
  if (api == nullptr) throw py::error_already_set();
  while (api != nullptr && api->header.version.major > 1) {
    api = reinterpret_cast<const DLPackExchangeAPI*>(api->header.prev_api);
  }
  if (api == nullptr || api->dltensor_from_py_object_no_sync == nullptr) return nullptr;
  return api;
}

// The C function behind a method without arguments, to be called without the look-up that a method
// costs.
PyCFunction function_behind(PyTypeObject* type, const char* name) {
  if (type->tp_getattro != PyObject_GenericGetAttr) return nullptr;
  const auto method = py::getattr(reinterpret_cast<PyObject*>(type), name, py::none());
  if (Py_TYPE(method.ptr()) != &PyMethodDescr_Type) return nullptr;
  const PyMethodDef* definition = reinterpret_cast<PyMethodDescrObject*>(method.ptr())->d_method;
  return definition->ml_flags == METH_NOARGS ? definition->ml_meth : nullptr;
}

// Not torch: what is asked for is not there.
bool is_true(PyObject* answer) {
  if (answer == nullptr) PyErr_Clear();
  const bool yes = answer == Py_True;
  Py_XDECREF(answer);
  return yes;
}

PyObject* call(PyCFunction function, PyObject* self, PyObject* name) {
  return function != nullptr ? function(self, nullptr)
                             : PyObject_VectorcallMethod(name, &self, 1, nullptr);
}

PyObject* get(const PyGetSetDef* attribute, PyObject* self, PyObject* name) {
  return attribute != nullptr ? attribute->get(self, attribute->closure)
                              : PyObject_GetAttr(self, name);
}

// Whether it is a subclass of a class of NumPy's, which has been imported where there are such.
bool is_numpys(py::handle type, const char* name) {
  const py::object numpy = py::module_::import("sys").attr("modules").attr("get")("numpy");
  if (numpy.is_none()) return false;
  return PyObject_IsSubclass(type.ptr(), numpy.attr(name).ptr()) == 1;
}

TypeInfo inspect_type(PyTypeObject* type) {
  const auto handle = py::reinterpret_borrow<py::object>(reinterpret_cast<PyObject*>(type));
  TypeInfo info{};
  info.source = Source::unknown;
  info.versioned = py::hasattr(handle, "_version");
  info.masked = py::hasattr(handle, "mask");
  info.scalar = is_numpys(handle, "generic");
  info.is_neg = function_behind(type, "is_neg");
  info.is_inference = function_behind(type, "is_inference");
  info.storage_offset = function_behind(type, "storage_offset");
  info.layout = attribute_behind(type, "layout");
  info.requires_grad = attribute_behind(type, "requires_grad");
  info.api = find_exchange_api(handle);
  if (info.api != nullptr) {
    info.source = Source::exchange;
  } else if (py::hasattr(handle, "data_ptr") && py::hasattr(handle, "stride") &&
             py::hasattr(handle, "is_neg")) {
    info.source = Source::attributes;
  } else if (py::hasattr(handle, "__dlpack__")) {
    info.source = Source::dlpack;
  }
  return info;
}

const TypeInfo& type_info(PyTypeObject* type) {
  // Leaked on purpose, types included: they are few, and a freed type's address could be used
  // again.
  static auto* cache = new std::unordered_map<PyTypeObject*, TypeInfo>();
  static PyTypeObject* last_type = nullptr;
  static const TypeInfo* last = nullptr;
  if (type == last_type) return *last;
  auto it = cache->find(type);
  if (it == cache->end()) {
    it = cache->emplace(type, inspect_type(type)).first;
    Py_INCREF(type);
  }
  last_type = type;
  last = &it->second;  // map nodes do not move
  return *last;
}

}  // namespace

bool use_exchange_api(bool on) {
  const bool old = exchange_on;
  exchange_on = on;
  return old;
}

const DLPackExchangeAPI* exchange_api(PyTypeObject* type) {
  return exchange_on ? type_info(type).api : nullptr;
}

Source source_of(py::handle object) {
  if (py::isinstance<py::array>(object)) return Source::numpy;
  const TypeInfo& info = type_info(Py_TYPE(object.ptr()));
  return info.source == Source::exchange && !exchange_on ? Source::attributes : info.source;
}

bool has_mask(py::handle array) {
  static const PyTypeObject* const plain = py::detail::npy_api::get().PyArray_Type_;
  PyTypeObject* const type = Py_TYPE(array.ptr());
  return type != plain && py::isinstance<py::array>(array) && type_info(type).masked;
}

bool has_version(py::handle object) {
  return !py::isinstance<py::array>(object) && type_info(Py_TYPE(object.ptr())).versioned;
}

PyGetSetDef* attribute_behind(PyTypeObject* type, const char* name) {
  if (type->tp_getattro != PyObject_GenericGetAttr) return nullptr;
  const auto attribute = py::getattr(reinterpret_cast<PyObject*>(type), name, py::none());
  if (Py_TYPE(attribute.ptr()) != &PyGetSetDescr_Type) return nullptr;
  return reinterpret_cast<PyGetSetDescrObject*>(attribute.ptr())->d_getset;
}

bool has_negation(py::handle tensor) {
  static PyObject* const name = PyUnicode_InternFromString("is_neg");
  return is_true(call(type_info(Py_TYPE(tensor.ptr())).is_neg, tensor.ptr(), name));
}

bool is_inference(py::handle tensor) {
  static PyObject* const name = PyUnicode_InternFromString("is_inference");
  return is_true(call(type_info(Py_TYPE(tensor.ptr())).is_inference, tensor.ptr(), name));
}

bool requires_grad(py::handle tensor) {
  static PyObject* const name = PyUnicode_InternFromString("requires_grad");
  return is_true(get(type_info(Py_TYPE(tensor.ptr())).requires_grad, tensor.ptr(), name));
}

bool has_strided_layout(py::handle tensor) {
  static PyObject* const name = PyUnicode_InternFromString("layout");
  static PyObject* strided = nullptr;  // torch.strided, once seen
  PyObject* layout = get(type_info(Py_TYPE(tensor.ptr())).layout, tensor.ptr(), name);
  if (layout == nullptr) {  // not torch
    PyErr_Clear();
    return true;
  }
  const auto owner = py::reinterpret_steal<py::object>(layout);
  if (layout == strided) return true;
  if (std::string(py::str(owner)) != "torch.strided") return false;
  strided = py::object(owner).release().ptr();
  return true;
}

bool is_freed(py::handle tensor, const void* data, std::int64_t itemsize) {
  // No system gives out memory so low that all tensors would be asked.
  constexpr std::uintptr_t kHighestOffset = std::uintptr_t{1} << 40;
  const auto address = reinterpret_cast<std::uintptr_t>(data);
  if (address >= kHighestOffset) return false;
  static PyObject* const name = PyUnicode_InternFromString("storage_offset");
  PyObject* self = tensor.ptr();
  PyObject* answer = call(type_info(Py_TYPE(self)).storage_offset, self, name);
  const std::int64_t offset = answer != nullptr ? PyLong_AsLongLong(answer) : 0;
  Py_XDECREF(answer);
  PyErr_Clear();  // not torch: no offset is known
  return address == static_cast<std::uintptr_t>(offset) * static_cast<std::uintptr_t>(itemsize);
}

// A number of NumPy's is an array without dimensions that cannot be written: what NumPy makes of
// sums. Anything else as it is.
static py::object as_array(py::handle object) {
  if (py::isinstance<py::array>(object) || !type_info(Py_TYPE(object.ptr())).scalar) {
    return py::reinterpret_borrow<py::object>(object);
  }
  py::array array = py::array::ensure(object);
  if (!array) throw py::error_already_set();
  array.attr("flags").attr("writeable") = false;
  return std::move(array);
}

ArrayList array_list(py::handle argument, const char* name) {
  ArrayList list;
  // An iterator, such as model.parameters(), is read once.
  const py::object sequence =
      PyIter_Check(argument.ptr())
          ? py::object(py::list(py::reinterpret_borrow<py::object>(argument)))
          : py::reinterpret_borrow<py::object>(argument);
  if (py::isinstance<py::list>(sequence) || py::isinstance<py::tuple>(sequence)) {
    PyObject** items = PySequence_Fast_ITEMS(sequence.ptr());
    const auto n = static_cast<std::size_t>(PySequence_Fast_GET_SIZE(sequence.ptr()));
    list.items.reserve(n);
    for (std::size_t i = 0; i < n; ++i) {
      list.items.push_back(py::reinterpret_borrow<py::object>(items[i]));
    }
    // Only now, when all are held: another thread may change the sequence meanwhile.
    const PyTypeObject* plain = nullptr;  // the last type whose objects are taken as they are
    for (py::object& item : list.items) {
      const PyTypeObject* const type = Py_TYPE(item.ptr());
      if (type == plain) continue;
      py::object array = as_array(item);
      if (array.is(item)) {
        plain = type;
      } else {
        item = std::move(array);
      }
    }
  } else if (source_of(argument) != Source::unknown) {
    list.items = {py::reinterpret_borrow<py::object>(argument)};
    list.single = true;
  } else if (type_info(Py_TYPE(argument.ptr())).scalar) {
    list.items = {as_array(argument)};
    list.single = true;
  } else {
    throw py::type_error(std::string(name) + ": expected an array or a sequence of arrays, got " +
                         Py_TYPE(argument.ptr())->tp_name);
  }
  return list;
}

void require_length(const ArrayList& list, const char* name, std::size_t wanted) {
  if (list.items.size() != wanted) {
    throw py::value_error(std::string(name) + ": expected " + std::to_string(wanted) +
                          " arrays like params, got " + std::to_string(list.items.size()));
  }
}

void increment_versions(py::handle tensors) {
  static py::handle increment;
  if (!increment) {
    increment =
        py::getattr(py::module_::import("torch.autograd.graph"), "increment_version").release();
  }
  PyObject* const none = PyObject_CallOneArg(increment.ptr(), tensors.ptr());
  if (none == nullptr) throw py::error_already_set();
  Py_DECREF(none);
}

}  // namespace subgrad
