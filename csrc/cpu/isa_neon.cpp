#define SGF_ISA isa_neon
#include "cpu/simd/f32x4_neon.h"
#include "cpu/simd/u64x2_neon.h"
//
#include "cpu/sample.inl"
//
#include "cpu/select.inl"
#include "cpu/sparse.inl"
//
#include "cpu/dense.inl"

namespace subgrad {
constexpr KernelTable kNeonTable = make_kernel_table("neon");
const KernelTable kNeonKernels = kNeonTable;
}  // namespace subgrad
