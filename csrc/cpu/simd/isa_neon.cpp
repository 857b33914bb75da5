#define SGF_ISA isa_neon
#include "cpu/simd/f32x4_neon.h"
#include "cpu/simd/u64x2_neon.h"
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
constexpr KernelTable kNeonTable = make_kernel_table("neon");
const KernelTable kNeonKernels = kNeonTable;
}  // namespace subgrad
