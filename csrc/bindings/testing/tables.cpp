// The tables of rules/, and how the CUDA launchers are called. It is no part of what a wheel is
// for, so it is kept small: tables of plain data, and one loop each.
#include "bindings/testing/tables.h"

#include <cstddef>
#include <initializer_list>
#include <string>
#include <type_traits>

#include "cuda/api.h"
#include "rules/table.h"

namespace subgrad {
namespace {

// --- The tables ----------------------------------------------------------------------------------

py::list dense_types() {
  py::list rows;
  for (const DenseTypes& t : kDenseTypes) {
    rows.append(py::make_tuple(name_of(t.param), name_of(t.grad), name_of(t.momentum)));
  }
  return rows;
}

py::list sgd_rules() {
  constexpr const char* decays[] = {"none", "coupled", "decoupled"};
  constexpr const char* buffers[] = {"none", "set", "accumulate"};
  constexpr const char* proxes[] = {"none", "l1"};
  py::list rows;
  for (const SgdRow& r : kSgdRows) {
    rows.append(py::make_tuple(decays[int(r.decay)], buffers[int(r.buffer)], r.nesterov,
                               proxes[int(r.prox)]));
  }
  return rows;
}

// --- The CUDA launchers, for tests that call or replace them
// --------------------------------------

// A type as NumPy writes it, i4 for int. Addresses are u8, whatever lies there.
struct Format {
  char kind;
  std::size_t bytes;

  std::string text() const { return kind + std::to_string(bytes); }
};

template <class T>
constexpr Format format_of() {
  static_assert(std::is_scalar_v<T> || std::is_same_v<T, char[sizeof(T)]>);
  return {std::is_array_v<T>            ? 'S'
          : std::is_same_v<T, bool>     ? 'b'
          : std::is_floating_point_v<T> ? 'f'
          : std::is_signed_v<T>         ? 'i'
                                        : 'u',
          sizeof(T)};
}

py::list texts(std::initializer_list<Format> formats) {
  py::list texts;
  for (const Format& format : formats) texts.append(format.text());
  return texts;
}

template <class Result, class... Parameters>
py::list formats_of(Result (*)(Parameters...)) {
  return texts({format_of<Result>(), format_of<Parameters>()...});
}

// By name, in the order of CudaApi: the formats of a launcher's result and parameters.
py::dict cuda_launchers() {
  py::dict formats;
#define SGF_LAUNCHER(result, name, parameters) formats[#name] = formats_of(CudaApi{}.name);
#include "cuda/launchers.inl"
  return formats;
}

// The fields that tests write or read, as (struct, its bytes, field, format, offset).
py::list cuda_fields() {
  struct Field {
    const char* of;
    std::size_t bytes;
    const char* name;
    Format format;
    std::size_t offset;
  };
#define SGF_FIELD(Struct, field) \
  {#Struct, sizeof(Struct), #field, format_of<decltype(Struct{}.field)>(), offsetof(Struct, field)}
  static constexpr Field fields[] = {
      SGF_FIELD(DenseTensor, param),
      SGF_FIELD(DenseTensor, grad),
      SGF_FIELD(DenseTensor, momentum),
      SGF_FIELD(DenseTensor, n),
      SGF_FIELD(DenseTensor, group),
      SGF_FIELD(DenseTensor, types),
      SGF_FIELD(DenseGroup, lr),
      SGF_FIELD(CudaDenseOptions, clip.grad_scale),
      SGF_FIELD(CudaDenseOptions, clip.grad_scale_on_device),
      SGF_FIELD(CudaDenseOptions, clip.found_inf),
      SGF_FIELD(GatherArray, source.data),
      SGF_FIELD(GatherArray, out),
      SGF_FIELD(GatherArray, source.stride),
      SGF_FIELD(GatherArray, source.row_bytes),
      SGF_FIELD(CudaDeviceInfo, name),
      SGF_FIELD(CudaDeviceInfo, major),
      SGF_FIELD(CudaDeviceInfo, minor),
  };
#undef SGF_FIELD
  py::list rows;
  for (const Field& f : fields) {
    rows.append(py::make_tuple(f.of, f.bytes, f.name, f.format.text(), f.offset));
  }
  const DenseGroup group{};
  const auto* const begin = reinterpret_cast<const char*>(&group);
  for (const SgdField& field : kSgdFields) {
    const auto* const at = field.flag != nullptr
                               ? reinterpret_cast<const char*>(&(group.params.*field.flag))
                               : reinterpret_cast<const char*>(&(group.params.*field.number));
    const Format format = field.flag != nullptr ? format_of<bool>() : format_of<double>();
    rows.append(py::make_tuple("DenseGroup", sizeof group, "params." + std::string(field.name),
                               format.text(), at - begin));
  }
  return rows;
}

}  // namespace

void register_tables(py::module_& m) {
  m.def("dense_types", &dense_types);
  m.def("sgd_rules", &sgd_rules);
  m.def("cuda_launchers", &cuda_launchers);
  m.def("cuda_fields", &cuda_fields);
}

}  // namespace subgrad
