#include "cpu/dense/dense.h"

#include <algorithm>
#include <utility>

#include "cpu/dense/staged.h"
#include "cpu/kernel_table.h"
#include "cpu/support/runs.h"
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

// The elements [begin, end) of a tensor that is not one run, counted in its layout's order.
void step_strided(const DenseTensor& s, const DenseTypes& types, DenseKernel kernel,
                  const SgdParams& params, double scale, std::int64_t begin, std::int64_t end) {
  using Dim = Layout::Dim;
  Run w(s.layout, Operand(s.param, &Dim::param_stride, types.param));
  Run m(s.layout, Operand(s.momentum, &Dim::momentum_stride, types.momentum));
  const Operand grad(const_cast<void*>(s.grad), &Dim::grad_stride, types.grad);
  RunAhead g(s.layout, grad, Run::kMost);
  for (std::int64_t i = begin; i < end; i += Run::kMost) {
    const std::int64_t n = std::min(Run::kMost, end - i);
    kernel(w.load(i, n), g.load(i, n, end), m.load(i, n), n, params, scale);
    w.store(i, n);
    m.store(i, n);
  }
}

void step_range(const std::vector<Group>& groups, const DenseTensor& s, double scale,
                std::int64_t begin, std::int64_t end) {
  const auto& [params, kernels] = groups[static_cast<std::size_t>(s.group)];
  const DenseKernel kernel = kernels[s.first ? 1 : 0][s.types];
  const DenseTypes& types = kDenseTypes[s.types];
  if (s.layout != nullptr) {
    step_strided(s, types, kernel, params, scale, begin, end);
    return;
  }
  const auto bytes = [begin](DType t) { return begin * static_cast<std::int64_t>(size_of(t)); };
  kernel(offset(s.param, bytes(types.param)), offset(s.grad, bytes(types.grad)),
         offset(s.momentum, bytes(types.momentum)), end - begin, params, scale);
}

// The bytes of a tensor's step, its stages' included.
Load load_of(const DenseTensor& s) {
  const DType average = compute_dtype(kDenseTypes[s.types].param);
  const auto more = static_cast<std::int64_t>(s.average != nullptr ? 2 * size_of(average) : 0);
  return {s.grad != nullptr ? s.n : 0, element_bytes(s) + more, kSplitElements};
}

}  // namespace

void run_dense(const std::vector<DenseTensor>& tensors, const std::vector<DenseGroup>& groups) {
  const std::vector<Group> all = with_kernels(kernels(), groups);
  share_work(
      tensors.size(), [&](std::size_t i) { return load_of(tensors[i]); },
      [&](std::size_t i, std::int64_t begin, std::int64_t end) {
        step_range(all, tensors[i], 1.0, begin, end);
      });
}

// The last elements first, in pieces that the caches hold: the norm has just read the gradients
// from first to last, so that their ends are still there. Within a piece upwards, as the processor
// fetches ahead.
void run_staged(const std::vector<DenseTensor>& tensors, const std::vector<DenseGroup>& groups,
                const Stages& stages) {
  constexpr std::int64_t kPiece = 256 << 10;  // elements
  static_assert(kPiece % kSplitElements == 0);
  const std::vector<Group> all = with_kernels(kernels(), groups);
  const auto step = [&](std::size_t i, std::int64_t begin, std::int64_t end) {
    const DenseTensor& s = tensors[i];
    if (stages[i].limit == kAbsent && s.average == nullptr) {
      step_range(all, s, stages[i].scale, begin, end);
      return;
    }
    const auto& [params, kernels] = all[static_cast<std::size_t>(s.group)];
    StagedTensor{s, params, kernels[s.first ? 1 : 0], stages[i]}.step(begin, end);
  };
  const std::size_t last = tensors.size() - 1;
  share_work(
      tensors.size(), [&](std::size_t i) { return load_of(tensors[last - i]); },
      [&](std::size_t i, std::int64_t begin, std::int64_t end) {
        const std::int64_t n = tensors[last - i].n;
        const auto from_end = [&](std::int64_t at) {
          return at == 0 ? n : (n - at) / kSplitElements * kSplitElements;
        };
        begin = from_end(std::exchange(end, from_end(begin)));
        while (begin < end) {
          const std::int64_t piece = std::max(begin, (end - 1) / kPiece * kPiece);
          step(last - i, piece, end);
          end = piece;
        }
      });
}

}  // namespace subgrad
