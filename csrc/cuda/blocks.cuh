// What the threads of a block do together: sums and scans, always in one order, so that sums of
// floating-point numbers have the same bits in every run. All threads of a block call these.
#pragma once

#include "cuda/launch.cuh"

namespace subgrad {

inline constexpr int kBlockThreads = 256;
inline constexpr unsigned kAllLanes = 0xffffffffu;

__device__ inline int lane_number() { return static_cast<int>(threadIdx.x) % 32; }

// The sum of the block's x before this thread's, and of all of them.
template <int threads, class T>
__device__ T block_scan(T x, T& total) {
  __shared__ T warp_sums[threads / 32];
  const int warp = static_cast<int>(threadIdx.x) / 32;
  T through = x;
#pragma unroll
  for (int distance = 1; distance < 32; distance *= 2) {
    const T other = __shfl_up_sync(kAllLanes, through, distance);
    if (lane_number() >= distance) through += other;
  }
  if (lane_number() == 31) warp_sums[warp] = through;
  __syncthreads();
  T before = 0, all = 0;
  for (int w = 0; w < threads / 32; ++w) {
    if (w < warp) before += warp_sums[w];
    all += warp_sums[w];
  }
  __syncthreads();  // the next scan writes there
  total = all;
  return before + through - x;
}

template <int threads, class T>
__device__ T block_sum(T x) {
  __shared__ T warp_sums[threads / 32];
#pragma unroll
  for (int distance = 16; distance > 0; distance /= 2) {
    x += __shfl_down_sync(kAllLanes, x, distance);
  }
  if (lane_number() == 0) warp_sums[threadIdx.x / 32] = x;
  __syncthreads();
  T all = 0;
  for (int w = 0; w < threads / 32; ++w) all += warp_sums[w];
  __syncthreads();  // the next sum writes there
  return all;
}

// Elements [begin, end) of x, `lanes` neighbours for each thread in a turn. Calls
// body(values, i, count): values[0 .. count) are x[i ...]; a thread beyond the end has a count of
// 0. Within a turn the order of the elements is that of the threads, so a scan ranks them.
template <int lanes, class T, class Body>
__device__ void each_turn(const T* x, int begin, int end, const Body& body) {
  for (int turn = begin; turn < end; turn += kBlockThreads * lanes) {
    const int i = turn + static_cast<int>(threadIdx.x) * lanes;
    Pack<T, lanes> pack = {};
    if (i < end) pack = pack_at<lanes>(x + i);
    body(pack, i, i < end ? lanes : 0);
  }
}

// All n elements, in packs of 16 bytes as far as they go; where they are aligned so.
template <class T, class Body>
__device__ void each_pack(const T* x, int n, const Body& body) {
  constexpr int lanes = 16 / sizeof(T);
  const bool packed = reinterpret_cast<std::uintptr_t>(x) % 16 == 0;
  const int in_packs = packed ? n / lanes * lanes : 0;
  each_turn<lanes>(x, 0, in_packs, body);
  each_turn<1>(x, in_packs, n, body);
}

}  // namespace subgrad
