// Every loop that the library shares among threads: the same bits by one thread, by several, and
// by several callers at once. Sizes are such that all of them are shared.
#include <array>
#include <chrono>
#include <numeric>

#include "cpu/dense/dense.h"
#include "cpu/exchange/exchange.h"
#include "cpu/rows/rows.h"
#include "cpu/sampling/draws.h"
#include "cpu/sampling/order.h"
#include "cpu/sampling/strata.h"
#include "cpu/sampling/weights.h"
#include "cpu/select/select.h"
#include "cpu/sparsify/sparsify.h"
#include "cpu/support/parallel.h"
#include "cpu/threshold/threshold.h"
#include "jobs.h"

namespace {

using subgrad::DType;

constexpr std::int64_t kN = 150'000;
constexpr std::size_t kSize = kN;

subgrad::SgdParams step_params() {
  subgrad::SgdParams params;
  params.lr = 0.1;
  params.momentum = 0.9;
  params.weight_decay = 0.01;
  return params;
}

int f32_row() { return subgrad::dense_types_row(DType::f32, DType::f32, DType::f32); }

// Three tensors, the middle one transposed.
Bytes dense(std::uint64_t seed) {
  std::vector<float> w = floats(kSize, seed), g = floats(kSize, seed + 1), m(kSize);
  const std::int64_t shape[] = {300, 200}, strides[] = {800, 4}, turned[] = {4, 1200};
  const subgrad::Layout layout(2, shape, strides, turned, strides);
  std::vector<subgrad::DenseTensor> tensors;
  std::int64_t begin = 0;
  for (const std::int64_t n : {std::int64_t{5}, std::int64_t{60'000}, kN - 60'005}) {
    tensors.push_back({&w[static_cast<std::size_t>(begin)], &g[static_cast<std::size_t>(begin)],
                       &m[static_cast<std::size_t>(begin)], n, n == 60'000 ? &layout : nullptr, 0,
                       f32_row(), n == 5});
    begin += n;
  }
  for (int step = 0; step < 2; ++step) subgrad::run_dense(tensors, {{step_params()}});
  Bytes result;
  result.add(w);
  result.add(m);
  return result;
}

void add_selection(Bytes& result, const subgrad::Selection& selection, std::size_t value_bytes) {
  for (const subgrad::Selected& s : selection.spans) {
    result.add(s.indices.get(), static_cast<std::size_t>(s.count) * 8);
    result.add(s.values.get(), static_cast<std::size_t>(s.count) * value_bytes);
  }
}

// By a sample, by digits, by a threshold.
Bytes select(std::uint64_t seed) {
  const std::vector<float> x = floats(2 * kSize, seed), y = floats(kSize / 2, seed + 1);
  const std::vector<subgrad::Span> spans = {{x.data(), DType::f32, 2 * kN},
                                            {y.data(), DType::f32, kN / 2}};
  Bytes result;
  for (const std::int64_t k : {kN / 100, kN}) {
    add_selection(result, subgrad::select_top(spans, k, subgrad::IndexType::i64), 4);
  }
  add_selection(result, subgrad::select_above(spans, 25.0, subgrad::IndexType::i64), 4);
  const subgrad::Energy energy = subgrad::energy(spans, subgrad::threshold_cut(spans, 25.0));
  result.add(&energy, 1);
  return result;
}

Bytes threshold(std::uint64_t seed) {
  using Kind = subgrad::Selector::Kind;
  Bytes result;
  for (const Kind kind : {Kind::absolute, Kind::sampled, Kind::exact}) {
    std::vector<float> w = floats(kSize, seed), g = floats(kSize, seed + 1), m(kSize), v(kSize);
    subgrad::ThresholdTensor tensor{};
    tensor.param.data = w.data();
    tensor.grad.data = g.data();
    tensor.momentum.data = m.data();
    tensor.residual.data = v.data();
    tensor.n = kN;
    tensor.types = f32_row();
    const subgrad::Selector selector{kind, 30.0, nullptr, kN / 50};
    const subgrad::ThresholdResult report =
        subgrad::run_threshold({tensor}, {{step_params()}}, {selector}, {8, true}, {});
    for (const auto* array : {&w, &m, &v}) result.add(*array);
    result.add(report.thresholds);
    result.add(report.energies);
    // Runs may be cut elsewhere, not be others.
    for (const subgrad::KeptRun& run : report.runs)
      result.add(run.indices.data(), run.indices.size());
    for (const subgrad::KeptRun& run : report.runs)
      result.add(run.values.data(), run.values.size());
  }
  return result;
}

// Many short rows, named several times each; two long ones.
Bytes rows(std::uint64_t seed) {
  Bytes result;
  for (const auto& [length, table, named] :
       {std::array<std::int64_t, 3>{4, 20'000, kN}, std::array<std::int64_t, 3>{70'000, 3, 5}}) {
    Numbers numbers(seed);
    std::vector<std::int64_t> row_numbers(static_cast<std::size_t>(named));
    for (std::int64_t& row : row_numbers) row = numbers.below(table);
    std::vector<float> w = floats(static_cast<std::size_t>(table * length), seed), m(w.size());
    const std::vector<float> g = floats(static_cast<std::size_t>(named * length), seed + 1);
    const std::int64_t stride = length * 4;
    const std::vector<subgrad::RowSegment> segments = {
        {reinterpret_cast<char*>(w.data()), stride, reinterpret_cast<char*>(m.data()), stride,
         reinterpret_cast<const char*>(g.data()), stride, row_numbers.data(), named, length,
         DType::f32, DType::f32, DType::f32, nullptr, false}};
    const subgrad::SgdParams params = step_params();
    subgrad::RowWork work(segments, params);
    const subgrad::SquareSums sums = work.square_sums();
    result.add(&sums[0].value, 1);
    work.run({});
    // Rows that take the step late.
    subgrad::RowHistory history(table);
    std::vector<subgrad::RowSegment> late = segments;
    late[0].history = &history;
    for (int step = 0; step < 3; ++step) {
      subgrad::RowWork(late, params).run({});
      history.catch_up(subgrad::memory_of(late[0]), row_numbers.data(), named / 2);
    }
    history.catch_up(subgrad::memory_of(late[0]));
    result.add(w);
    result.add(m);
  }
  return result;
}

Bytes sparsify(std::uint64_t seed) {
  Bytes result;
  std::vector<std::uint8_t> mask(kSize);
  for (std::size_t i = 0; i < kSize; ++i) mask[i] = i % 3 == 0;
  for (int kind = 0; kind < 6; ++kind) {
    std::vector<float> w = floats(kSize, seed);
    const std::vector<subgrad::WeightSpan> arrays = {
        {w.data(), DType::f32, kN, nullptr, mask.data(), 50}};
    if (kind == 0) subgrad::shrink(arrays, 3.0, 0.5);
    if (kind == 1) subgrad::shrink_rows(arrays, 100.0);
    if (kind == 2) subgrad::apply_masks(arrays);
    if (kind == 3) subgrad::keep_largest(arrays, kN / 10);
    if (kind == 4) subgrad::keep_at_least(arrays, 20.0);
    if (kind == 5) subgrad::keep_pattern(arrays, 2, 4);
    result.add(w);
  }
  return result;
}

// Two payloads of every third and every fifth element.
Bytes exchange(std::uint64_t seed) {
  std::vector<std::vector<char>> bytes;
  std::vector<subgrad::Payload> payloads;
  const std::int64_t capacity = kN;
  for (const std::int64_t each : {3, 5}) {
    bytes.emplace_back(static_cast<std::size_t>(capacity) * 8);
    std::vector<std::int32_t> indices;
    for (std::int64_t i = 0; i < kN; i += each) indices.push_back(static_cast<std::int32_t>(i));
    const std::vector<float> values =
        floats(indices.size(), seed + static_cast<std::uint64_t>(each));
    std::memcpy(bytes.back().data(), indices.data(), indices.size() * 4);
    std::memcpy(bytes.back().data() + capacity * 4, values.data(), values.size() * 4);
    payloads.push_back({nullptr, static_cast<std::int64_t>(indices.size())});
  }
  for (std::size_t i = 0; i < bytes.size(); ++i) payloads[i].data = bytes[i].data();
  std::vector<float> out(kSize);
  subgrad::merge_entries(payloads, {DType::f32, false}, capacity, 0.5, DType::f32, out.data(), kN);
  Bytes result;
  result.add(out);
  return result;
}

Bytes sampling(std::uint64_t seed) {
  Bytes result;
  std::vector<std::int64_t> out(kSize);
  for (const std::uint64_t block : {0u, 1000u}) {
    const subgrad::Order order({kSize, seed, 1, true, block, 2});
    order.range(0, 1, kN, out.data());
    result.add(out);
    order.positions(out.data(), kN);
    for (std::size_t i = 0; i < kSize; ++i) require(out[i] == std::int64_t(i), "a position");
  }
  subgrad::uniform_draws(seed, 3, kN, 1000, out.data());
  result.add(out);
  subgrad::choose(std::uint64_t{1} << 40, seed, 0, kN, out.data());
  result.add(out);
  const subgrad::Strata strata({0, 10, 1000, 1100});
  std::vector<std::int64_t> classes(kSize), turns(kSize);
  for (std::size_t i = 0; i < kSize; ++i) classes[i] = static_cast<std::int64_t>(i % 3);
  std::iota(turns.begin(), turns.end(), 0);
  strata.turns(seed, classes.data(), turns.data(), kN, out.data());
  result.add(out);
  strata.members(seed, 5, classes.data(), kN, out.data());
  result.add(out);
  strata.groups(seed, 0, classes.data(), kN / 20, 2, 10, out.data());
  result.add(out);
  const subgrad::Strata halves({0, kSize / 2, kSize});
  halves.spread(seed, seed + 1, 1000, out.data());
  result.add(out);
  std::vector<double> weights(turns.begin(), turns.end());
  const double largest = subgrad::check_weights(weights.data(), kN).largest;
  subgrad::Weights(std::move(weights), largest).draw(seed, 0, kN, out.data());
  result.add(out);
  return result;
}

}  // namespace

void kernel_jobs() {
  using Job = Bytes (*)(std::uint64_t seed);
  const std::pair<const char*, Job> jobs[] = {
      {"dense", dense},       {"select", select},     {"threshold", threshold}, {"rows", rows},
      {"sparsify", sparsify}, {"exchange", exchange}, {"sampling", sampling},
  };
  for (const auto& [name, job] : jobs) {
    subgrad::set_num_threads(1);
    const std::string want[] = {job(1).all, job(2).all};
    subgrad::set_num_threads(4);
    require(job(1).all == want[0], name);
    at_once(2, [&, run = job, what = name](int i) {
      require(run(static_cast<std::uint64_t>(i) + 1).all == want[i], what);
    });
  }
}

void first_use() {
  const subgrad::KernelTable* tables[8];
  at_once(8, [&](int i) { tables[i] = &subgrad::kernels(); });
  for (const subgrad::KernelTable* table : tables) require(table == tables[0], "two tables");
}

void race_between_calls() {
  std::vector<float> w(1000), g(1000), m(1000);
  at_once(2, [&](int) {
    subgrad::run_dense({{w.data(), g.data(), m.data(), 1000, nullptr, 0, f32_row(), false}},
                       {{step_params()}});
  });
}

void race_in_a_region() {
  std::int64_t count = 0;
  subgrad::parallel_for(4, 64, [&](std::int64_t) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));  // lest one thread takes all
    ++count;
  });
}
