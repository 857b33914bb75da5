#define SGF_ISA isa_avx512
#include "cpu/simd/f32x16_avx512.h"
#include "cpu/simd/u64x8_avx512.h"
//
#include "cpu/sample.inl"
//
#include "cpu/select.inl"
#include "cpu/sparse.inl"
//
#include "cpu/dense.inl"

namespace subgrad {
constexpr KernelTable kAvx512Table = make_kernel_table("avx512");
const KernelTable kAvx512Kernels = kAvx512Table;
}  // namespace subgrad
