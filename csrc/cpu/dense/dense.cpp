#include "cpu/dense/dense.h"

#include "cpu/kernel_table.h"
#include "cpu/support/layout.h"
#include "cpu/support/share.h"

namespace subgrad {
namespace {

std::int64_t element_bytes(const DenseTensor& s) {
  const DenseTypes& t = kDenseTypes[s.types];
  const std::size_t momentum = s.momentum != nullptr ? 2 * size_of(t.momentum) : 0;
  return static_cast<std::int64_t>(2 * size_of(t.param) + size_of(t.grad) + momentum);
}

template <class T>
T* offset(T* p, std::int64_t bytes) {
  using Byte = std::conditional_t<std::is_const_v<T>, const char, char>;
  return p == nullptr ? nullptr : static_cast<T*>(static_cast<Byte*>(p) + bytes);
}

// A group with the kernels that it asks for.
struct Group {
  const SgdParams& params;
  const DenseKernel* kernels[2];  // by element types; [1]: the first step
};

std::vector<Group> with_kernels(const KernelTable& table, const std::vector<DenseGroup>& groups) {
  std::vector<Group> all;
  all.reserve(groups.size());
  for (const auto& [p, lr] : groups) {
    all.push_back({p, {table.dense[sgd_rule(p, false)], table.dense[sgd_rule(p, true)]}});
  }
  return all;
}

void step_range(const std::vector<Group>& groups, const DenseTensor& s, std::int64_t begin,
                std::int64_t end) {
  const auto& [params, kernels] = groups[static_cast<std::size_t>(s.group)];
  const DenseKernel kernel = kernels[s.first ? 1 : 0][s.types];
  const DenseTypes& types = kDenseTypes[s.types];
  if (s.layout != nullptr) {
    step_strided(*s.layout, kernel, types, s.param, s.grad, s.momentum, params, begin, end);
    return;
  }
  const auto bytes = [begin](DType t) { return begin * static_cast<std::int64_t>(size_of(t)); };
  kernel(offset(s.param, bytes(types.param)), offset(s.grad, bytes(types.grad)),
         offset(s.momentum, bytes(types.momentum)), end - begin, params);
}

}  // namespace

void run_dense(const std::vector<DenseTensor>& tensors, const std::vector<DenseGroup>& groups) {
  const std::vector<Group> all = with_kernels(kernels(), groups);
  const auto load_of = [&](std::size_t i) {
    const DenseTensor& s = tensors[i];
    return Load{s.grad != nullptr ? s.n : 0, element_bytes(s), kSplitElements};
  };
  share_work(tensors.size(), load_of, [&](std::size_t i, std::int64_t begin, std::int64_t end) {
    step_range(all, tensors[i], begin, end);
  });
}

}  // namespace subgrad
