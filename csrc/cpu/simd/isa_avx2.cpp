#define SGF_ISA isa_avx2
#include "cpu/simd/f32x8_avx2.h"
#include "cpu/simd/u64x4_avx2.h"
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
constexpr KernelTable kAvx2Table = make_kernel_table("avx2");
const KernelTable kAvx2Kernels = kAvx2Table;
}  // namespace subgrad
