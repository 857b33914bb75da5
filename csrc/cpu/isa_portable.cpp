#define SGF_ISA isa_portable
#include "cpu/simd/f32x1.h"
#include "cpu/simd/u64x1.h"
//
#include "cpu/sample.inl"
//
#include "cpu/select.inl"
#include "cpu/sparse.inl"
//
#include "cpu/dense.inl"

namespace subgrad {
constexpr KernelTable kPortableTable = make_kernel_table("portable");
const KernelTable kPortableKernels = kPortableTable;
}  // namespace subgrad
