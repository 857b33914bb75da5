// Orders of rows and draws, with the CPU's bits: every row is a function of its position
// (samplers/), so threads share nothing and neither order nor number of threads shows.
//
// Memory traffic is 8 bytes written for an index, and one aligned 16-byte column, somewhere in the
// table, read for a weighted draw. A uniform draw takes 82 instructions (half a block of words), a
// position of an order 177 for each of its one to two passes through the network (of PTX, counted
// by the interpreter). An H100 could write some 400 indices a nanosecond and starts 900 warp
// instructions meanwhile, which make 350 draws, or 160 passes: draws are near what memory allows,
// orders are bound by arithmetic. A batch's indices are neither: they take as long as a launch.
//
// Blocks have 256 threads, which share nothing, so their size matters little; a grid is no larger
// than fits a device twice, and threads go on to further elements. What they wait for is
// arithmetic, and 64 registers a thread (four blocks a multiprocessor, which the launch bounds ask
// for) are enough for that: an order's keys stay in constant memory, as parameters of the launch.
#include <algorithm>

#include "cuda/api.h"
#include "cuda/launch.cuh"
#include "samplers/draw.h"

namespace subgrad {
namespace {

constexpr int kThreads = 256;
constexpr int kBlocksPerMultiprocessor = 4;
constexpr int kWaves = 2;

__device__ std::int64_t first_element() {
  return std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
}
__device__ std::int64_t all_threads() { return std::int64_t{gridDim.x} * blockDim.x; }

// --- Orders --------------------------------------------------------------------------------------

// Where positions (or rows, of which positions are wanted) come from: the next one, if it is one.
struct Range {
  std::uint64_t start, step;
  __device__ bool operator()(std::int64_t i, std::uint64_t, std::uint64_t& x) const {
    x = start + static_cast<std::uint64_t>(i) * step;
    return true;
  }
};
struct Listed {
  const std::int64_t* values;
  __device__ bool operator()(std::int64_t i, std::uint64_t n, std::uint64_t& x) const {
    const std::int64_t value = values[i];
    x = static_cast<std::uint64_t>(value) + (value < 0 ? n : 0);
    if (x < n) return true;
    x = 0;  // a walk from outside may never end
    return false;
  }
};

// The walk of samplers/permute.h. A pass leaves up to half of the lanes outside [0, n), and to wait
// for the last of a warp would take some six passes; so a lane that has arrived goes on to its next
// element at once, and the others pass again beside it. For 32,768 positions of n = 2^16 + 1 that
// makes 495,000 instead of 1,027,000 warp instructions; in return a warp's stores fall apart, and
// meet again in the second-level cache.
template <bool forward, class Source>
__global__ void __launch_bounds__(kThreads, kBlocksPerMultiprocessor)
    walk(const __grid_constant__ RowOrder order, Source source, std::int64_t* out,
         std::int64_t count) {
  const Permutation& p = order.rows;
  std::uint64_t x = 0;
  bool inside = true;
  const auto enter = [&](std::int64_t i) {
    inside = source(i, order.n, x);
    if (forward) x = exchange_first(p, turned(order, x));
  };
  std::int64_t i = first_element();
  if (i < count) enter(i);
  while (i < count) {
    if (p.right_bits == 0) {
      x = forward ? p.forward[x] : p.backward[x];
    } else {
      x = forward ? permute_pass(p, x) : unpermute_pass(p, x);
    }
    if (x < p.n) {
      if (!forward) x = turned(order, exchange_first(p, x));
      out[i] = inside ? static_cast<std::int64_t>(x) : kOutside;
      i += all_threads();
      if (i < count) enter(i);
    }
  }
}

// Block by block: a window's keys are worked out for each position, which costs seven blocks of
// words, or an exact shuffle of less than 64 rows. They are kept in shared memory, 248 bytes a
// thread, as they would not fit the registers; so these blocks are small.
constexpr int kWindowThreads = 64;
template <bool forward, class Source>
__global__ void __launch_bounds__(kWindowThreads)
    walk_windows(const __grid_constant__ RowOrder order, Source source, std::int64_t* out,
                 std::int64_t count) {
  __shared__ Permutation inside_windows[kWindowThreads];
  Permutation& inside_window = inside_windows[threadIdx.x];
  for (std::int64_t i = first_element(); i < count; i += all_threads()) {
    std::uint64_t x;
    const bool inside = source(i, order.n, x);
    x = forward ? index_at(order, x, inside_window) : position_of(order, x, inside_window);
    out[i] = inside ? static_cast<std::int64_t>(x) : kOutside;
  }
}

// --- Draws ---------------------------------------------------------------------------------------

// A thread takes the two draws of a block of words. `packed`: they are 16 aligned bytes.
template <class Picker>
__global__ void __launch_bounds__(kThreads, kBlocksPerMultiprocessor)
    draw(const Picker picker, std::uint64_t key, std::uint64_t start, std::int64_t* out,
         std::int64_t count, bool packed) {
  const std::int64_t odd = static_cast<std::int64_t>(start & 1);
  for (std::int64_t pair = first_element(); 2 * pair < count + odd; pair += all_threads()) {
    const std::uint64_t number = (start & ~std::uint64_t{1}) + 2 * static_cast<std::uint64_t>(pair);
    const Words words = philox_words(key, number >> 1, counter_high(0, 0));
    Pack<std::int64_t, 2> drawn;
#pragma unroll
    for (int k = 0; k < 2; ++k) {
      std::uint64_t value;
      if (!picker.pick(word_of(words, k), value)) value = redraw(picker, key, number + k);
      drawn.lane[k] = static_cast<std::int64_t>(value);
    }
    const std::int64_t i = 2 * pair - odd;
    if (packed && i >= 0 && i + 1 < count) {
      pack_at<2>(out + i) = drawn;
    } else {
      if (i >= 0) out[i] = drawn.lane[0];
      if (i + 1 < count) out[i + 1] = drawn.lane[1];
    }
  }
}

// The generator itself.
__global__ void __launch_bounds__(kThreads)
    random_words(std::uint64_t key, std::uint64_t low, std::uint64_t high, std::uint64_t* words,
                 std::int64_t blocks) {
  for (std::int64_t i = first_element(); i < blocks; i += all_threads()) {
    const Words block = philox_words(key, low + static_cast<std::uint64_t>(i), high);
    words[2 * i] = block.first;
    words[2 * i + 1] = block.second;
  }
}

// --- The launchers -------------------------------------------------------------------------------

// Starts `kernel` for so many elements, one a thread as long as they fit the device a few times.
template <class... Parameters, class... Arguments>
cudaError_t launch(int device, void* stream, std::int64_t elements, int threads,
                   void (*kernel)(Parameters...), const Arguments&... given) {
  if (elements == 0) return cudaSuccess;
  const OnDevice on(device);
  SGF_CUDA_TRY(on.error());
  int processors = 0;
  SGF_CUDA_TRY(multiprocessors(device, processors));
  const std::int64_t most = std::int64_t{kWaves} * kBlocksPerMultiprocessor * processors;
  const std::int64_t blocks = std::min((elements - 1) / threads + 1, most);
  void* arguments[] = {const_cast<void*>(static_cast<const void*>(&given))...};
  return cudaLaunchKernel(reinterpret_cast<const void*>(kernel), static_cast<unsigned>(blocks),
                          static_cast<unsigned>(threads), arguments, 0,
                          static_cast<cudaStream_t>(stream));
}

template <bool forward, class Source>
int walk_order(int device, void* stream, const RowOrder& order, const Source& source,
               std::int64_t* out, std::int64_t count) {
  const bool windows = order.block_size != 0;
  return launch(device, stream, count, windows ? kWindowThreads : kThreads,
                windows ? &walk_windows<forward, Source> : &walk<forward, Source>, order, source,
                out, count);
}

template <class Picker>
int draw_from(int device, void* stream, const Picker& picker, std::uint64_t key,
              std::uint64_t start, std::int64_t* out, std::int64_t count) {
  const std::int64_t odd = static_cast<std::int64_t>(start & 1);
  const bool packed = odd == 0 ? aligned_to(out, 16) : !aligned_to(out, 16);
  const std::int64_t pairs = count == 0 ? 0 : (count + odd + 1) / 2;
  return launch(device, stream, pairs, kThreads, &draw<Picker>, picker, key, start, out, count,
                packed);
}

}  // namespace

extern "C" {

int subgrad_cuda_order_range(int device, void* stream, const RowOrder* order, std::int64_t start,
                             std::int64_t step, std::int64_t* out, std::int64_t count) {
  const Range range{static_cast<std::uint64_t>(start), static_cast<std::uint64_t>(step)};
  return walk_order<true>(device, stream, *order, range, out, count);
}

int subgrad_cuda_order_indices(int device, void* stream, const RowOrder* order,
                               std::int64_t* values, std::int64_t count) {
  return walk_order<true>(device, stream, *order, Listed{values}, values, count);
}

int subgrad_cuda_order_positions(int device, void* stream, const RowOrder* order,
                                 std::int64_t* values, std::int64_t count) {
  return walk_order<false>(device, stream, *order, Listed{values}, values, count);
}

int subgrad_cuda_uniform_draws(int device, void* stream, std::uint64_t n, std::uint64_t key,
                               std::uint64_t start, std::int64_t* out, std::int64_t count) {
  return draw_from(device, stream, UniformPicker{n}, key, start, out, count);
}

int subgrad_cuda_alias_draws(int device, void* stream, const AliasColumn* table, std::uint64_t n,
                             std::uint64_t key, std::uint64_t start, std::int64_t* out,
                             std::int64_t count) {
  return draw_from(device, stream, AliasPicker{table, n}, key, start, out, count);
}

int subgrad_cuda_random_words(int device, void* stream, std::uint64_t key, std::uint64_t low,
                              std::uint64_t high, std::uint64_t* words, std::int64_t blocks) {
  return launch(device, stream, blocks, kThreads, &random_words, key, low, high, words, blocks);
}

}  // extern "C"

}  // namespace subgrad
