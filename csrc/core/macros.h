// Compiler and ISA macros. Included by everything, includes nothing.
#pragma once

#if defined(__CUDACC__)
#define SGF_HD __host__ __device__ __forceinline__
#elif defined(_MSC_VER)
#define SGF_HD __forceinline
#else
#define SGF_HD inline __attribute__((always_inline))
#endif

#if defined(_MSC_VER)
#define SGF_INLINE __forceinline
#else
#define SGF_INLINE inline __attribute__((always_inline))
#endif

// A hint that the cache line at p will be wanted.
#if defined(__GNUC__)
#define SGF_PREFETCH(p) __builtin_prefetch(p)
#else
#define SGF_PREFETCH(p) static_cast<void>(p)
#endif

// Everything that is compiled once per instruction set lives in an inline namespace named after it,
// so that no template instantiated with AVX-512 flags can win at link time and run on an older
// processor. Each cpu/isa_*.cpp defines SGF_ISA before its includes; other files get the portable
// name.
#ifndef SGF_ISA
#define SGF_ISA isa_portable
#endif
