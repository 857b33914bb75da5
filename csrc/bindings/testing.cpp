// What only tests and tools ask for: the tables of rules/, and how the CUDA launchers are called.
#include <pybind11/stl.h>

#include <cstddef>
#include <string>
#include <tuple>
#include <type_traits>
#include <vector>

#include "bindings/registrars.h"
#include "cuda/api.h"
#include "rules/table.h"

namespace py = pybind11;

namespace subgrad {
namespace {

// --- The tables ----------------------------------------------------------------------------------

std::vector<std::tuple<const char*, const char*, const char*>> dense_types() {
  std::vector<std::tuple<const char*, const char*, const char*>> rows;
  for (const DenseTypes& t : kDenseTypes) {
    rows.emplace_back(name_of(t.param), name_of(t.grad), name_of(t.momentum));
  }
  return rows;
}

std::vector<std::tuple<const char*, const char*, bool, const char*>> sgd_rules() {
  constexpr const char* decays[] = {"none", "coupled", "decoupled"};
  constexpr const char* buffers[] = {"none", "set", "accumulate"};
  constexpr const char* proxes[] = {"none", "l1"};
  std::vector<std::tuple<const char*, const char*, bool, const char*>> rows;
  for (const SgdRow& r : kSgdRows) {
    rows.emplace_back(decays[int(r.decay)], buffers[int(r.buffer)], r.nesterov,
                      proxes[int(r.prox)]);
  }
  return rows;
}

// --- The CUDA launchers, for tests that call them past the bindings or stand in for them
// ------------

// A type as NumPy writes it: a kind and its bytes. Addresses are u8, whatever lies there.
template <class T>
std::string format_of() {
  using Element = std::remove_extent_t<T>;
  static_assert(std::is_scalar_v<Element> &&
                (std::is_same_v<Element, char> || !std::is_array_v<T>));
  constexpr char kind = std::is_array_v<T>            ? 'S'
                        : std::is_same_v<T, bool>     ? 'b'
                        : std::is_floating_point_v<T> ? 'f'
                        : std::is_signed_v<T>         ? 'i'
                                                      : 'u';
  return kind + std::to_string(sizeof(T));
}

template <class Result, class... Parameters>
std::vector<std::string> formats_of(Result (*)(Parameters...)) {
  return {format_of<Result>(), format_of<Parameters>()...};
}

// By name, in the order of CudaApi: the formats of a launcher's result and parameters.
py::dict cuda_launchers() {
  py::dict formats;
#define SGF_LAUNCHER(result, name, parameters) formats[#name] = formats_of(CudaApi{}.name);
#include "cuda/launchers.inl"
  return formats;
}

// (struct, its bytes, field, format, offset) of the fields that tests write or read.
using StructField = std::tuple<const char*, std::size_t, const char*, std::string, std::size_t>;
std::vector<StructField> cuda_fields() {
#define SGF_FIELD(Struct, field) \
  {#Struct, sizeof(Struct), #field, format_of<decltype(Struct{}.field)>(), offsetof(Struct, field)}
  return {
      SGF_FIELD(CudaDenseTensor, param),
      SGF_FIELD(CudaDenseTensor, grad),
      SGF_FIELD(CudaDenseTensor, momentum),
      SGF_FIELD(CudaDenseTensor, n),
      SGF_FIELD(CudaDenseTensor, params_row),
      SGF_FIELD(CudaDenseTensor, types_row),
      SGF_FIELD(CudaDenseRow, params.lr),
      SGF_FIELD(CudaDenseRow, params.momentum),
      SGF_FIELD(CudaDenseRow, params.weight_decay),
      SGF_FIELD(CudaDenseRow, params.decoupled_weight_decay),
      SGF_FIELD(CudaDenseRow, params.l1),
      SGF_FIELD(CudaDenseRow, lr),
      SGF_FIELD(CudaDenseOptions, grad_scale),
      SGF_FIELD(CudaDenseOptions, found_inf),
      SGF_FIELD(CudaGatherArray, source),
      SGF_FIELD(CudaGatherArray, out),
      SGF_FIELD(CudaGatherArray, stride),
      SGF_FIELD(CudaGatherArray, row_bytes),
      SGF_FIELD(CudaDeviceInfo, name),
      SGF_FIELD(CudaDeviceInfo, major),
      SGF_FIELD(CudaDeviceInfo, minor),
  };
#undef SGF_FIELD
}

}  // namespace

void register_testing(py::module_& m) {
  m.def("dense_types", &dense_types);
  m.def("sgd_rules", &sgd_rules);
  m.def("cuda_launchers", &cuda_launchers);
  m.def("cuda_fields", &cuda_fields);
}

}  // namespace subgrad
