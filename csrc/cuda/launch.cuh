// What all kernels share: how memory is moved, and how a kernel is started.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "core/convert.h"
#include "cuda/check.cuh"

namespace subgrad {

// `lanes` neighbouring elements, moved by one instruction of up to 16 bytes.
template <class T, int lanes>
struct alignas(sizeof(T) * lanes) Pack {
  static_assert(sizeof(T) * lanes <= 16, "the widest access there is on every architecture");
  T lane[lanes];
};

template <int lanes, class T>
__device__ Pack<T, lanes>& pack_at(T* p) {
  return *reinterpret_cast<Pack<T, lanes>*>(p);
}
template <int lanes, class T>
__device__ const Pack<T, lanes>& pack_at(const T* p) {
  return *reinterpret_cast<const Pack<T, lanes>*>(p);
}

// Packs as numbers of the arithmetic type, and back.
template <class T, int lanes, int packs, class C>
__device__ void widen_packs(const Pack<T, lanes> (&pack)[packs], C (&number)[packs * lanes]) {
#pragma unroll
  for (int k = 0; k < packs * lanes; ++k) number[k] = widen<C>(pack[k / lanes].lane[k % lanes]);
}
template <class T, int lanes, int packs, class C>
__device__ void narrow_packs(const C (&number)[packs * lanes], Pack<T, lanes> (&pack)[packs]) {
#pragma unroll
  for (int k = 0; k < packs * lanes; ++k)
    pack[k / lanes].lane[k % lanes] = Narrow<T>::of(number[k]);
}

template <class T>
bool aligned_to(const T* p, std::size_t bytes) {
  return reinterpret_cast<std::uintptr_t>(p) % bytes == 0;
}

// Starts a kernel; its error is that of this launch and no older one.
template <class... Parameters, class... Arguments>
cudaError_t launch(void (*kernel)(Parameters...), int blocks, int threads, cudaStream_t stream,
                   const Arguments&... arguments) {
  const auto start = [&](const Parameters&... parameters) {
    void* addresses[] = {const_cast<void*>(static_cast<const void*>(&parameters))...};
    return cudaLaunchKernel(reinterpret_cast<const void*>(kernel), blocks, threads, addresses, 0,
                            stream);
  };
  return blocks > 0 ? start(arguments...) : cudaSuccess;
}

inline cudaError_t multiprocessors(int device, int& count) {
  return cudaDeviceGetAttribute(&count, cudaDevAttrMultiProcessorCount, device);
}

}  // namespace subgrad
