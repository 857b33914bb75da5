#include "cpu/dense/dense.h"

#include "cpu/support/share.h"

namespace subgrad {
namespace {

std::int64_t element_bytes(const DenseSegment& s) {
  const DenseTypes& t = kDenseTypes[s.types_row];
  const std::size_t momentum = s.momentum != nullptr ? 2 * size_of(t.momentum) : 0;
  return static_cast<std::int64_t>(2 * size_of(t.param) + size_of(t.grad) + momentum);
}

template <class T>
T* offset(T* p, std::int64_t bytes) {
  using Byte = std::conditional_t<std::is_const_v<T>, const char, char>;
  return p == nullptr ? nullptr : static_cast<T*>(static_cast<Byte*>(p) + bytes);
}

// The hyper-parameter rows with the kernels that they ask for.
struct Row {
  const SgdParams& params;
  const DenseKernel* kernels[2];  // by element types; [1]: the first step
};

std::vector<Row> rows_of(const KernelTable& table, const std::vector<SgdParams>& params) {
  std::vector<Row> rows;
  rows.reserve(params.size());
  for (const SgdParams& p : params) {
    rows.push_back({p, {table.dense[sgd_rule(p, false)], table.dense[sgd_rule(p, true)]}});
  }
  return rows;
}

void step_range(const std::vector<Row>& rows, const DenseSegment& s, std::int64_t begin,
                std::int64_t end) {
  const auto& [params, kernels] = rows[static_cast<std::size_t>(s.params_row)];
  const DenseKernel kernel = kernels[s.first ? 1 : 0][s.types_row];
  const DenseTypes& types = kDenseTypes[s.types_row];
  if (s.layout != nullptr) {
    step_strided(*s.layout, kernel, types, s.param, s.grad, s.momentum, params, begin, end);
    return;
  }
  const auto bytes = [begin](DType t) { return begin * static_cast<std::int64_t>(size_of(t)); };
  kernel(offset(s.param, bytes(types.param)), offset(s.grad, bytes(types.grad)),
         offset(s.momentum, bytes(types.momentum)), end - begin, params);
}

}  // namespace

void run_dense(const std::vector<DenseSegment>& segments, const std::vector<SgdParams>& params) {
  const std::vector<Row> rows = rows_of(kernels(), params);
  const auto load_of = [&](std::size_t i) {
    const DenseSegment& s = segments[i];
    return Load{s.grad != nullptr ? s.n : 0, element_bytes(s), kSplitElements};
  };
  share_work(segments.size(), load_of, [&](std::size_t i, std::int64_t begin, std::int64_t end) {
    step_range(rows, segments[i], begin, end);
  });
}

}  // namespace subgrad
