#define SGF_ISA isa_avx512
#include "cpu/simd/f32x16_avx512.h"
#include "cpu/simd/u64x8_avx512.h"
//
#include "cpu/rows/replay.inl"
#include "cpu/sampling/sampling.inl"
//
#include "cpu/select/select.inl"
#include "cpu/threshold/threshold.inl"
//
#include "cpu/clip/clip.inl"
#include "cpu/sparsify/sparsify.inl"
//
#include "cpu/dense/dense.inl"

namespace subgrad {
constexpr KernelTable kAvx512Table = make_kernel_table("avx512");
const KernelTable kAvx512Kernels = kAvx512Table;
}  // namespace subgrad
