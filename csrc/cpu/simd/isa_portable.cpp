#define SGF_ISA isa_portable
#include "cpu/simd/f32x1.h"
#include "cpu/simd/u64x1.h"
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
constexpr KernelTable kPortableTable = make_kernel_table("portable");
const KernelTable kPortableKernels = kPortableTable;
}  // namespace subgrad
