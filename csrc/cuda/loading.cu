// A batch: rows of several arrays, copied in the order of a list of indices, by one launch.
//
// Memory traffic is that of the rows, read once and written once, and 8 bytes for an index; the
// list of arrays travels with the launch, as in dense.cu. What is cut among threads is the output:
// each array's is one run of packs, and a block takes 256 or 1024 of them. So a warp always writes
// one unbroken run; it reads one too where a row has 32 packs or more, and several short rows where
// it has less. A pack is the widest of 16, 8, 4, 2 and 1 bytes that all of an array's rows are
// aligned to and a whole number of, at both ends.
//
// A pack takes some 60 instructions, half of them the division that finds its row (of 32 bits,
// where the numbers are small). An H100's memory leaves time for five times as many at 16 bytes a
// pack, and for a third at one byte: rows of odd sizes are bound by instructions. A load has to
// wait for its index, which a warp shares and finds in the cache; so a thread asks for all of its
// indices first, then for all packs. Four packs of 16 bytes a thread, four blocks of 256 threads a
// multiprocessor (64 registers a thread) have 64 KB on their way; dense.cu says what is needed.
// Small batches are cut into single packs a thread, so that they reach more multiprocessors.
#include <algorithm>

#include "cuda/api.h"
#include "cuda/launch.cuh"

namespace subgrad {
namespace {

constexpr int kThreads = 256;
constexpr int kBlocksPerMultiprocessor = 4;
constexpr int kMostPacks = 4;  // a thread

// --- The list of arrays --------------------------------------------------------------------------

struct GatherPart {
  const char* source;
  char* out;
  std::int64_t stride;
  std::int64_t per_row, packs;  // packs in a row, and in all
  std::int64_t first_block;
  int width;  // of a pack, in bytes
};

// Kernel parameters hold 4 KB everywhere.
struct GatherList {
  static constexpr int kParts = (4096 - 16) / int{sizeof(GatherPart)};

  const std::int64_t* indices;
  int count;
  GatherPart parts[kParts];
};
static_assert(sizeof(GatherList) <= 4096, "the limit of parameters");

// --- The copy ------------------------------------------------------------------------------------

// A block's packs, from number `first` of its array on. All loads are on their way before anything
// waits for one: a pack behind the end is read from the last one's place, and not stored.
template <class P, int packs>
__device__ void copy_packs(const GatherPart& part, const std::int64_t* indices,
                           std::int64_t first) {
  std::int64_t row[packs], column[packs], index[packs];
  P pack[packs];
#pragma unroll
  for (int u = 0; u < packs; ++u) {
    const std::int64_t at =
        min(first + u * kThreads + static_cast<int>(threadIdx.x), part.packs - 1);
    row[u] = at / part.per_row;
    column[u] = at - row[u] * part.per_row;
    index[u] = indices[row[u]];
  }
#pragma unroll
  for (int u = 0; u < packs; ++u) {
    pack[u] = reinterpret_cast<const P*>(part.source + index[u] * part.stride)[column[u]];
  }
#pragma unroll
  for (int u = 0; u < packs; ++u) {
    const std::int64_t at = first + u * kThreads + static_cast<int>(threadIdx.x);
    if (at < part.packs) reinterpret_cast<P*>(part.out)[at] = pack[u];
  }
}

template <int packs>
__global__ void __launch_bounds__(kThreads, kBlocksPerMultiprocessor)
    gather(const __grid_constant__ GatherList list) {
  const std::int64_t block = blockIdx.x;
  int i = 0;  // the array that this block works on: the last that begins no later
  while (i + 1 < list.count && list.parts[i + 1].first_block <= block) ++i;
  const GatherPart& part = list.parts[i];
  const std::int64_t first = (block - part.first_block) * (packs * kThreads);
  switch (part.width) {  // the same for all threads of a block
    case 16:
      return copy_packs<uint4, packs>(part, list.indices, first);
    case 8:
      return copy_packs<std::uint64_t, packs>(part, list.indices, first);
    case 4:
      return copy_packs<std::uint32_t, packs>(part, list.indices, first);
    case 2:
      return copy_packs<std::uint16_t, packs>(part, list.indices, first);
    default:
      return copy_packs<std::uint8_t, packs>(part, list.indices, first);
  }
}

// --- Indices from the host -----------------------------------------------------------------------

// They travel as a kernel parameter too, so that there is no copy to wait for, and no pinned memory
// to keep alive until it is over.
template <int kBytes>
struct IndexList {
  static constexpr int kIndices = (kBytes - 8) / 8;
  std::int64_t* out;
  std::int64_t values[kIndices];
};
using SmallList = IndexList<4096>;
#if CUDART_VERSION >= 12010
using LargeList = IndexList<32760>;
#else
using LargeList = SmallList;
#endif

template <class List>
__global__ void __launch_bounds__(kThreads)
    store_indices(const __grid_constant__ List list, int count) {
  const int i = static_cast<int>(blockIdx.x) * kThreads + static_cast<int>(threadIdx.x);
  if (i < count) list.out[i] = list.values[i];
}

// --- The launchers -------------------------------------------------------------------------------

int width_of(const GatherArray& array) {
  const auto all = reinterpret_cast<std::uintptr_t>(array.source.data) |
                   reinterpret_cast<std::uintptr_t>(array.out) |
                   static_cast<std::uintptr_t>(array.source.stride) |
                   static_cast<std::uintptr_t>(array.source.row_bytes) | std::uintptr_t{16};
  return static_cast<int>(all & (~all + 1));  // the lowest bit that is set in any
}

template <int packs>
cudaError_t run(GatherList& list, cudaStream_t stream) {
  constexpr int chunk = packs * kThreads;
  std::int64_t blocks = 0;
  for (int i = 0; i < list.count; ++i) {
    list.parts[i].first_block = blocks;
    blocks += (list.parts[i].packs - 1) / chunk + 1;
  }
  void* arguments[] = {&list};
  return cudaLaunchKernel(reinterpret_cast<const void*>(&gather<packs>),
                          static_cast<unsigned>(blocks), kThreads, arguments, 0, stream);
}

cudaError_t run(GatherList& list, int processors, cudaStream_t stream) {
  std::int64_t chunks = 0;
  for (int i = 0; i < list.count; ++i) chunks += list.parts[i].packs / (kMostPacks * kThreads);
  const bool many = chunks >= std::int64_t{kBlocksPerMultiprocessor} * processors;
  return many ? run<kMostPacks>(list, stream) : run<1>(list, stream);
}

template <class List>
cudaError_t send(const std::int64_t* indices, std::int64_t* out, int count, cudaStream_t stream) {
  List list;
  list.out = out;
  std::copy(indices, indices + count, list.values);
  void* arguments[] = {&list, &count};
  return cudaLaunchKernel(reinterpret_cast<const void*>(&store_indices<List>),
                          (count - 1) / kThreads + 1, kThreads, arguments, 0, stream);
}

}  // namespace

extern "C" int subgrad_cuda_send_indices(int device, void* stream, const std::int64_t* indices,
                                         std::int64_t* out, std::int64_t count) {
  const OnDevice on(device);
  SGF_CUDA_TRY(on.error());
  for (std::int64_t i = 0; i < count;) {
    const bool few = count - i <= SmallList::kIndices;
    const int size = static_cast<int>(std::min<std::int64_t>(count - i, LargeList::kIndices));
    const auto send_list = few ? &send<SmallList> : &send<LargeList>;
    SGF_CUDA_TRY(send_list(indices + i, out + i, size, static_cast<cudaStream_t>(stream)));
    i += size;
  }
  return cudaSuccess;
}

extern "C" int subgrad_cuda_gather(int device, void* stream, const GatherArray* arrays,
                                   std::size_t count, const std::int64_t* indices,
                                   std::int64_t rows) {
  const OnDevice on(device);
  SGF_CUDA_TRY(on.error());
  int processors = 0;
  SGF_CUDA_TRY(multiprocessors(device, processors));
  GatherList list;
  list.indices = indices;
  list.count = 0;
  for (std::size_t i = 0; i < count; ++i) {
    const GatherArray& a = arrays[i];
    if (a.source.row_bytes == 0 || rows == 0) continue;
    if (list.count == GatherList::kParts) {
      SGF_CUDA_TRY(run(list, processors, static_cast<cudaStream_t>(stream)));
      list.count = 0;
    }
    const int width = width_of(a);
    const std::int64_t per_row = a.source.row_bytes / width;
    list.parts[list.count++] = {a.source.data, a.out, a.source.stride, per_row, per_row * rows, 0,
                                width};
  }
  if (list.count == 0) return cudaSuccess;
  return run(list, processors, static_cast<cudaStream_t>(stream));
}

}  // namespace subgrad
