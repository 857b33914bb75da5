// What only tests and benchmarks use: which kernels run, how an array is reached, and parts that
// nothing calls by themselves.
#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include <optional>
#include <string>

#include "bindings/border/gil.h"
#include "bindings/border/registrars.h"
#include "bindings/loading/batch_indices.h"
#include "bindings/loading/rows.h"
#include "bindings/sampling/target.h"
#include "bindings/select/amounts.h"
#include "bindings/select/operands.h"
#include "bindings/testing/regions.h"
#include "bindings/testing/tables.h"
#include "cpu/kernel_table.h"
#include "cpu/sampling/weights.h"
#include "cpu/select/select.h"
#include "cpu/threshold/threshold.h"

namespace subgrad {
namespace {

std::string source_text(const py::object& array) {
  switch (source_of(array)) {
    case Source::numpy:
      return "numpy array struct";
    case Source::exchange:
      return "DLPack exchange API";
    case Source::attributes:
      return "tensor attributes";
    case Source::dlpack:
      return "DLPack capsule";
    case Source::unknown:
      break;
  }
  return "not an array";
}

py::array_t<std::uint64_t> random_words(std::uint64_t key, std::uint64_t low, std::uint64_t high,
                                        std::int64_t blocks) {
  py::array_t<std::uint64_t> words(2 * blocks);
  kernels().philox(key, low, high, blocks, words.mutable_data());
  return words;
}

void random_words_on_device(std::uint64_t key, std::uint64_t low, std::uint64_t high,
                            const py::object& out) {
  const IndexTarget target(out, {"out"});
  target.launch([&](const CudaApi& api, void* stream) {
    return api.random_words(target.place().device, stream, key, low, high,
                            reinterpret_cast<std::uint64_t*>(target.data()), target.count() / 2);
  });
}

// The probabilities that draws give to weights, as integers in proportion: of the alias table, or
// with an exponent of the tree.
std::vector<std::uint64_t> weight_masses(const std::vector<double>& weights,
                                         std::optional<int> exponent) {
  const auto n = static_cast<std::int64_t>(weights.size());
  const double largest = check_weights(weights.data(), n).largest;
  return Weights(weights, largest, exponent).masses();
}

// A batch by indices on a device, and indices sent there: parts of what a loader does there.
void gather_fields(const std::vector<py::object>& sources, const std::vector<py::object>& outputs,
                   const py::object& given) {
  const IndexTarget indices(given, {"indices"});
  const int device = indices.place().device;
  if (outputs.size() != sources.size()) throw py::value_error("outputs: one per source");
  std::vector<GatherArray> work;
  for (std::size_t i = 0; i < sources.size(); ++i) {
    const auto number = static_cast<std::ptrdiff_t>(i);
    const Where where{"sources", number}, to{"outputs", number};
    const ArrayRows source = rows_of(sources[i], where);
    require_source(source, rows_of(sources[0], where).count, device, where);
    require_cuda(source.place, where);
    const ArrayRows output = rows_of(outputs[i], to);
    require_fit(output, source, indices.count(), to);
    work.push_back({source.source(), output.data});
  }
  indices.launch([&](const CudaApi& api, void* stream) {
    return api.gather(indices.place().device, stream, work.data(), work.size(), indices.data(),
                      indices.count());
  });
}

void send_indices(const py::object& given, std::int64_t rows, const py::object& out) {
  const IndexTarget target(out, {"out"});
  std::vector<std::int64_t> indices(static_cast<std::size_t>(target.count()));
  copy_batch_indices(given, target.count(), rows, indices.data());
  target.launch([&](const CudaApi& api, void* stream) {
    return api.send_indices(target.place().device, stream, indices.data(), target.data(),
                            target.count());
  });
}

py::tuple energy_of(const py::object& x, std::int64_t k) {
  SelectOperands operands(x, true);
  operands.require_k(k, 0);
  const auto spans = operands.scopes()[0];
  const Energy e = energy(spans, kth_magnitude(spans, k));
  return py::make_tuple(e.kept, e.rest);
}

}  // namespace

void register_testing(py::module_& m) {
  using namespace py::literals;
  register_regions(m);
  register_tables(m);
  m.def("isa", [] { return kernels().isa; });
  m.def(
      "select_isa",
      [](const std::optional<std::string>& name) {
        select_isa(name.has_value() ? name->c_str() : nullptr);
      },
      "name"_a);
  m.def("use_exchange_api", &use_exchange_api, "on"_a);
  m.def("array_source", &source_text, "array"_a);
  m.def("random_words", &random_words, "key"_a, "low"_a, "high"_a, "blocks"_a);
  m.def("random_words_on_device", &random_words_on_device, "key"_a, "low"_a, "high"_a, "out"_a);
  m.def("weight_masses", &weight_masses, "weights"_a, "exponent"_a);
  m.def("gather", &gather_fields, "sources"_a, "outputs"_a, "indices"_a);
  m.def("send_indices", &send_indices, "indices"_a, "rows"_a, "out"_a);
  m.def("energy", &energy_of, "x"_a, "k"_a);
  m.def("count_of", &k_of, "density"_a, "n"_a);
  m.def("next_threshold", &next_threshold, "threshold"_a, "kept"_a, "target"_a);
}

}  // namespace subgrad
