// Samplers and batches on a GPU: the same functions as on the CPU, for tensors that lie there.
// Arguments other than these have been checked by sampling/.
#include <pybind11/stl.h>

#include <optional>
#include <string>
#include <vector>

#include "bindings/cuda/arrays.h"
#include "bindings/loading/batch_indices.h"
#include "bindings/registrars.h"
#include "cpu/sampling/order.h"
#include "cpu/sampling/weights.h"
#include "samplers/order.h"

namespace subgrad {
namespace {

using Columns = py::array_t<std::int64_t, py::array::c_style>;

void order_range(const Order& order, std::int64_t start, std::int64_t step,
                 const py::object& given) {
  const CudaIndices out = cuda_indices(given, {"out"});
  launch_on(out.array, {"out"}, [&](const CudaApi& api, void* stream) {
    return api.order_range(out.array.device, stream, &order.rows(), start, step, out.data,
                           out.count);
  });
}

void order_indices(const Order& order, const py::object& given) {
  const CudaIndices values = cuda_indices(given, {"values"});
  launch_on(values.array, {"values"}, [&](const CudaApi& api, void* stream) {
    return api.order_indices(values.array.device, stream, &order.rows(), values.data, values.count);
  });
}

void order_positions(const Order& order, const py::object& given) {
  const CudaIndices values = cuda_indices(given, {"values"});
  launch_on(values.array, {"values"}, [&](const CudaApi& api, void* stream) {
    return api.order_positions(values.array.device, stream, &order.rows(), values.data,
                               values.count);
  });
}

void choose_into(std::uint64_t n, std::uint64_t seed, std::uint64_t draw, const py::object& given) {
  const CudaIndices out = cuda_indices(given, {"out"});
  const RowOrder order = plain_order(n, choose_key(seed, draw), 0);
  launch_on(out.array, {"out"}, [&](const CudaApi& api, void* stream) {
    return api.order_range(out.array.device, stream, &order, 0, 1, out.data, out.count);
  });
}

void uniform_draws(std::uint64_t n, std::uint64_t seed, std::uint64_t epoch, std::uint64_t start,
                   const py::object& given) {
  const CudaIndices out = cuda_indices(given, {"out"});
  launch_on(out.array, {"out"}, [&](const CudaApi& api, void* stream) {
    return api.uniform_draws(out.array.device, stream, n, uniform_key(seed, epoch), start, out.data,
                             out.count);
  });
}

// The alias table as it lies in memory, to be put on a device.
Columns columns(const Weights& weights) {
  const AliasColumn* table = weights.columns();
  if (table == nullptr) throw py::value_error("weights: have changed, there is no table");
  return Columns({weights.n(), std::int64_t{2}}, reinterpret_cast<const std::int64_t*>(table));
}

void alias_draws(const Weights& weights, const py::object& columns_given, std::uint64_t seed,
                 std::uint64_t epoch, std::uint64_t start, bool by_epoch, const py::object& given) {
  const CudaIndices table = cuda_indices(columns_given, {"table"});
  const CudaIndices out = cuda_indices(given, {"out"});
  if (table.array.device != out.array.device || table.count != 2 * weights.n() ||
      reinterpret_cast<std::uintptr_t>(table.data) % alignof(AliasColumn) != 0) {
    throw py::value_error("table: does not fit");
  }
  launch_on(out.array, {"out"}, [&](const CudaApi& api, void* stream) {
    return api.alias_draws(out.array.device, stream,
                           reinterpret_cast<const AliasColumn*>(table.data),
                           static_cast<std::uint64_t>(weights.n()),
                           weighted_key(seed, epoch, by_epoch), start, out.data, out.count);
  });
}

void random_words(std::uint64_t key, std::uint64_t low, std::uint64_t high,
                  const py::object& given) {
  const CudaIndices out = cuda_indices(given, {"out"});
  launch_on(out.array, {"out"}, [&](const CudaApi& api, void* stream) {
    return api.random_words(out.array.device, stream, key, low, high,
                            reinterpret_cast<std::uint64_t*>(out.data), out.count / 2);
  });
}

// The indices of a batch of arrays that have so many rows, from the host to a device.
void send_indices(const py::object& given, std::int64_t rows, const py::object& out_given) {
  const CudaIndices out = cuda_indices(out_given, {"out"});
  const IndexArray indices = batch_indices(given, out.count, rows);
  const std::int64_t* data = indices.data();
  launch_on(out.array, {"out"}, [&](const CudaApi& api, void* stream) {
    return api.send_indices(out.array.device, stream, data, out.data, out.count);
  });
}

// The indices have been checked, or are a sampler's.
void gather(const std::vector<py::object>& sources, const std::vector<py::object>& outputs,
            const py::object& indices_given) {
  const CudaIndices indices = cuda_indices(indices_given, {"indices"});
  if (outputs.size() != sources.size()) throw py::value_error("outputs: one per source");
  std::vector<CudaGatherArray> arrays;
  for (std::size_t i = 0; i < sources.size(); ++i) {
    const auto number = static_cast<std::ptrdiff_t>(i);
    const CudaArray source = cuda_array(sources[i], {"sources", number});
    const CudaArray output = cuda_array(outputs[i], {"outputs", number});
    if (source.device != indices.array.device || !source.contiguous_rows()) {
      throw py::value_error("sources[" + std::to_string(i) + "]: expected contiguous rows on " +
                            device_text(indices.array.device));
    }
    if (output.device != source.device || output.tensor.ndim == 0 ||
        output.tensor.shape[0] != indices.count || !output.contiguous() ||
        output.row_bytes() != source.row_bytes()) {
      throw py::value_error("outputs[" + std::to_string(i) + "]: does not fit its source");
    }
    arrays.push_back({source.data(), output.data(), source.row_stride(), source.row_bytes()});
  }
  launch_on(indices.array, {"indices"}, [&](const CudaApi& api, void* stream) {
    return api.gather(indices.array.device, stream, arrays.data(), arrays.size(), indices.data,
                      indices.count);
  });
}

}  // namespace

void register_cuda_sampling(py::module_& m) {
  using namespace py::literals;

  m.def(
      "cuda_device",
      [](const py::object& array) -> std::optional<int> {
        const std::optional<CudaArray> found = find_cuda_array(array);
        return found.has_value() ? std::optional(found->device) : std::nullopt;
      },
      "array"_a);
  m.def(
      "cuda_size", [](const py::object& array) { return cuda_indices(array, {"out"}).count; },
      "out"_a);
  m.def(
      "cuda_rows",
      [](const py::object& array) { return cuda_array(array, {"array"}).contiguous_rows(); },
      "array"_a);
  m.def("cuda_random_words", &random_words, "key"_a, "low"_a, "high"_a, "out"_a);
  m.def("cuda_send_indices", &send_indices, "indices"_a, "rows"_a, "out"_a);
  m.def("cuda_gather", &gather, "sources"_a, "outputs"_a, "indices"_a);

  // Beside those for NumPy's arrays, which are tried first.
  m.def("choose", &choose_into, "n"_a, "seed"_a, "draw"_a, "out"_a);
  m.def("uniform_draws", &uniform_draws, "n"_a, "seed"_a, "epoch"_a, "start"_a, "out"_a);
  py::class_<Order>(m.attr("Order"))
      .def("range", &order_range, "start"_a, "step"_a, "out"_a)
      .def("indices", &order_indices, "values"_a)
      .def("positions", &order_positions, "values"_a);
  py::class_<Weights>(m.attr("Weights"))
      .def("columns", &columns)
      .def("draw_from", &alias_draws, "table"_a, "seed"_a, "epoch"_a, "start"_a, "by_epoch"_a,
           "out"_a);
}

}  // namespace subgrad
