// The k-th largest magnitude of each scope, as a key, exactly.
//
// It is found digit by digit (a radix select), as on the CPU: 31 bits of a key in three passes of
// up to 11 bits, 63 bits in six. A pass reads the arrays once. A block counts the digits of its
// chunk in shared memory and adds what it found to the scope's bins; one block for each scope then
// takes the digit in which the k-th lies. Only integers are added, so the order of the blocks does
// not matter. Where one digit is much more frequent than others (equal elements, zeros) a warp
// counts its most likely digit by one addition, or 32 lanes would queue for one bin.
//
// Traffic for each f32 element: 12 bytes.
#include "core/convert.h"
#include "cuda/spans.cuh"

namespace subgrad {
namespace {

template <class T>
__global__ void __launch_bounds__(kBlockThreads)
    count_digits(const __grid_constant__ SpanList list, int shift) {
  using C = compute_t<T>;
  __shared__ unsigned bins[kBins];
  for (int b = static_cast<int>(threadIdx.x); b < kBins; b += kBlockThreads) bins[b] = 0;
  __syncthreads();

  const Part part(list);
  const std::uint64_t known = list.scratch.scopes[part.span.scope].key;
  each_pack(part.data<T>(), part.n, [&](const auto& pack, int, int count) {
#pragma unroll
    for (int k = 0; k < int(sizeof pack.lane / sizeof(T)); ++k) {
      const std::uint64_t key = magnitude_key(widen<C>(pack.lane[k]));
      const std::uint64_t digit =
          (key ^ known) >> shift;  // no more than that: the upper ones agree
      const bool in = k < count && digit < kBins;
      const unsigned lanes = __ballot_sync(kAllLanes, in);
      if (lanes == 0) continue;
      const int first = __ffs(static_cast<int>(lanes)) - 1, bin = static_cast<int>(digit);
      const int likely = __shfl_sync(kAllLanes, bin, first);
      const unsigned alike = __ballot_sync(kAllLanes, in && bin == likely);
      if (lane_number() == first) {
        atomicAdd(&bins[likely], static_cast<unsigned>(__popc(alike)));
      } else if (in && bin != likely) {
        atomicAdd(&bins[bin], 1u);
      }
    }
  });
  __syncthreads();
  unsigned long long* const all = list.scratch.bins + std::int64_t{part.span.scope} * kBins;
  for (int b = static_cast<int>(threadIdx.x); b < kBins; b += kBlockThreads) {
    if (bins[b] != 0) atomicAdd(&all[b], static_cast<unsigned long long>(bins[b]));
  }
}

// A block for each scope: the digit in which the k-th key lies, and how many are left to be found
// among those that have it. Leaves the bins at 0.
__global__ void __launch_bounds__(kBlockThreads)
    choose_digit(SelectScratch scratch, int shift, bool f64) {
  constexpr int kOwn = kBins / kBlockThreads;
  ScopeState& scope = scratch.scopes[blockIdx.x];
  if (!scope.exact || scope.f64 != f64 || scope.left == 0) return;
  unsigned long long* const bins = scratch.bins + std::int64_t{blockIdx.x} * kBins;
  const int top = kBins - 1 - static_cast<int>(threadIdx.x) * kOwn;  // digits in descending order
  std::int64_t own[kOwn], sum = 0, total;
#pragma unroll  // so that they stay in registers
  for (int b = 0; b < kOwn; ++b) {
    own[b] = static_cast<std::int64_t>(bins[top - b]);
    bins[top - b] = 0;
    sum += own[b];
  }
  const std::int64_t wanted = scope.left;
  std::int64_t before = block_scan<kBlockThreads>(sum, total);
  if (before >= wanted || before + sum < wanted) return;  // in the bins of another thread
  int digit = top;
  bool there = false;
#pragma unroll
  for (int b = 0; b < kOwn; ++b) {
    there = there || before + own[b] >= wanted;
    if (there) continue;
    before += own[b];
    --digit;
  }
  scope.key |= static_cast<std::uint64_t>(digit) << shift;
  scope.left = wanted - before;
}

}  // namespace

cudaError_t Selecting::find_keys(int processors, cudaStream_t stream) const {
  if (!any_exact()) return cudaSuccess;
  const std::size_t bytes = static_cast<std::size_t>(scope_count_) * kBins * sizeof *scratch_.bins;
  SGF_CUDA_TRY(cudaMemsetAsync(scratch_.bins, 0, bytes, stream));
  for (const bool f64 : {false, true}) {
    const auto of_type = [&](const SpanItem& s) { return (s.dtype == DType::f64) == f64; };
    if (std::none_of(spans_.begin(), spans_.end(), of_type)) continue;
    // The first digit has what the others leave of 31 or 63 bits.
    for (int shift = (f64 ? 62 : 30) / kBinBits * kBinBits; shift >= 0; shift -= kBinBits) {
      SGF_CUDA_TRY(each_type([&](auto element, DType dtype) {
        if ((dtype == DType::f64) != f64) return cudaSuccess;
        const auto wanted = [&](const SpanItem& s) {
          return s.dtype == dtype && exact(s.scope) && scopes_[s.scope].k > 0;
        };
        return each_list(*this, 16 * processors, wanted, [&](const SpanList& list, int blocks) {
          return launch(&count_digits<decltype(element)>, blocks, kBlockThreads, stream, list,
                        shift);
        });
      }));
      SGF_CUDA_TRY(
          launch(&choose_digit, scope_count_, kBlockThreads, stream, scratch_, shift, f64));
    }
  }
  return cudaSuccess;
}

}  // namespace subgrad
