// What the bindings hand to a launcher, whether it runs on the CPU or on a device: plain structs of
// addresses, sizes and choices. They own nothing.
//
// Tensors that share their hyper-parameters are a group, tensors that share a threshold a scope;
// both are told by their number in a list. Addresses are of the memory of the device that the
// launcher works on.
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/macros.h"
#include "core/sgd_params.h"
#include "core/types.h"

namespace subgrad {

struct Layout;  // cpu/support/layout.h

// --- What stands around a step's rule ------------------------------------------------------------

// Which gradients share a norm, and so a coefficient for each bound that they are clipped to.
enum class NormScope : std::uint8_t { global, group, tensor };

// Squares are added in blocks of so many elements, within a block in so many sums: element i goes
// to sum i % kSquareSums, and the sums are folded in halves.
inline constexpr std::int64_t kNormBlock = 4096;
inline constexpr int kSquareSums = 32;
SGF_HD std::int64_t norm_blocks(std::int64_t n) { return (n + kNormBlock - 1) / kNormBlock; }

// A gradient whose elements are measured, or changed in place.
struct Gradient {
  void* data;
  DType dtype;
  std::int64_t n;
  const Layout* layout;  // its strides are the layout's grad_stride; null: one contiguous run
};

// What a gradient goes through before a rule meets it: it is multiplied, then held within
// [-limit, limit].
struct GradientStage {
  double scale = 1.0;
  double limit = kAbsent;

  SGF_HD bool changes_nothing() const { return scale == 1.0 && limit == kAbsent; }
};

// The moving average of a parameter: of its type, or of f32 for 16-bit ones.
struct Average {
  void* data;
  const Layout* layout;  // its strides are the layout's grad_stride; null: as the parameter's
  bool first;            // it holds nothing yet
};

// --- The dense step ------------------------------------------------------------------------------

struct DenseGroup {
  SgdParams params;
  const float* lr = nullptr;  // in device memory, read in place of params.lr when the step runs
};

struct DenseTensor {
  void* param;
  const void* grad;      // null on the CPU: the tensor is left out of this step
  void* momentum;        // null: the rule has none
  std::int64_t n;        // elements
  const Layout* layout;  // null: one contiguous run in the same order. A device takes no other
  int group;
  int types;                         // row of kDenseTypes
  bool first;                        // the momentum buffer holds nothing yet
  const Average* average = nullptr;  // null: none is kept
};

// --- Selection by magnitude ----------------------------------------------------------------------

// One contiguous run of elements. Spans that are given together are computed in one type: f64 does
// not meet others.
struct Span {
  const void* data;
  DType dtype;
  std::int64_t n;
};

// What is kept of a scope.
struct Selector {
  // absolute: magnitudes of at least `threshold`. exact: the k largest, of those that tie the
  // first. sampled: about k, by a sample, or `threshold` while that does; on a device as exact.
  enum class Kind : std::uint8_t { absolute, exact, sampled };
  Kind kind = Kind::absolute;
  double threshold = 0.0;
  const double* threshold_on_device = nullptr;  // read in its place when the work runs
  std::int64_t k = 0;

  bool counts() const { return kind != Kind::absolute; }
};

// Where what is kept of an array goes, ascending by index: what is beyond the capacity is not kept.
// All null: nowhere.
struct KeptRoom {
  static constexpr std::int64_t kUnlimited = INT64_MAX;
  void* indices = nullptr;  // of the size that the call says
  void* values = nullptr;
  std::int64_t capacity = kUnlimited;
};

// An array to select from on a device. Scopes are numbered in the order of their arrays.
struct SelectSpan {
  Span span;
  int scope;
  KeptRoom kept;  // values have the array's type
};

// --- The thresholded step ------------------------------------------------------------------------

struct ThresholdGroup {
  SgdParams params;
  const float* lr = nullptr;  // as in DenseGroup
  bool momentum_correction = true;
  bool momentum_masking = true;
};

// One array of a tensor. A null layout means one contiguous run; otherwise elements are counted in
// the layout's order, which is row-major, and all strides of the layout are this array's.
struct ThresholdOperand {
  void* data = nullptr;
  const Layout* layout = nullptr;  // a device takes none
};

// Momentum and residual have the type of the arithmetic.
struct ThresholdTensor {
  ThresholdOperand param, grad;
  ThresholdOperand momentum;  // null: the rule has none
  ThresholdOperand residual;  // null: what is not kept is dropped
  std::int64_t n;
  int group;
  int scope;
  int types;      // row of kDenseTypes
  bool first;     // the momentum holds nothing yet
  bool fresh;     // the residual holds nothing yet
  KeptRoom kept;  // of a device; values have the type of the arithmetic
};

struct ThresholdOptions {
  int index_bytes = 0;   // 4 or 8: what is kept is reported, with indices of that size
  bool measure = false;  // sums of squares are reported
};

// --- Gathering -----------------------------------------------------------------------------------

// An array whose rows are runs of bytes, a fixed distance (of either sign, or zero) apart.
struct RowSource {
  const char* data;
  std::int64_t stride;     // bytes from one row to the next
  std::int64_t row_bytes;  // may be 0
};

// One array of a batch, and where its rows go, one behind the other.
struct GatherArray {
  RowSource source;
  char* out;
};

}  // namespace subgrad
