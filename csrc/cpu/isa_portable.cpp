#define SGF_ISA isa_portable
#include "cpu/simd/f32x1.h"
//
#include "cpu/dense.inl"

namespace subgrad {
constexpr KernelTable kPortableTable = make_kernel_table("portable");
const KernelTable kPortableKernels = kPortableTable;
}  // namespace subgrad
