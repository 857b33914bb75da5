// What does not change between two dense steps: where each parameter and momentum lies, which
// element types meet, which memory is written. A plan is built once, its gradients are bound before
// each step.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "bindings/border/extents.h"
#include "bindings/border/written_memory.h"
#include "bindings/clip/options.h"
#include "bindings/cuda/steps.h"
#include "cpu/dense/dense.h"
#include "cpu/support/huge_pages.h"
#include "cpu/support/layout.h"

namespace subgrad {

class DensePlan {
 public:
  // Adds a tensor; throws (TypeError, ValueError naming the argument) for what cannot be stepped.
  // `group` is that of its hyper-parameters. The caller keeps the memory alive.
  void add(const ArrayView& param, const Where& where, int group);

  // Gives the tensor added last a momentum buffer, which must have the parameter's shape.
  void add_momentum(const ArrayView& momentum, const Where& where);

  // Gives the tensor added last a moving average, which must have the parameter's shape and the
  // type that it is computed in. `first`: the average holds nothing yet.
  void add_average(const ArrayView& average, const Where& where, bool first);

  // Gives the tensor added last, which is on a device, counts of what its memory holds.
  void add_counts(CudaStepCounts* counts);

  // Call once after the last add: refuses tensors that share memory.
  void seal();

  // A parameter or momentum lies elsewhere now, in memory of the host, as it did: its type, shape
  // and strides are what they were. After some of these, and before the next step, reseal().
  void move_param(std::size_t i, char* data);
  void move_momentum(std::size_t i, char* data);
  void reseal();

  std::size_t size() const { return tensors_.size(); }
  const Extents& param(std::size_t i) const { return tensors_[i].param; }
  const Extents& momentum(std::size_t i) const { return details_[i].momentum; }
  const Extents& average(std::size_t i) const { return details_[i].average; }
  bool one_run(std::size_t i) const { return tensors_[i].one_run; }
  bool has_momentum(std::size_t i) const { return tensors_[i].has_momentum; }
  bool on_device(std::size_t i) const { return tensors_[i].param.device != kHost; }
  bool any_on_device() const { return cuda_.any(); }

  // Whether parameter, momentum and this gradient are one run of memory in the same order. What is
  // not is stepped on the CPU only.
  bool contiguous_with(std::size_t i, const ArrayView& grad, bool same_layout);

  // Starts a new step; then bind() the gradient of each tensor that takes part; then run().
  // `same_layout` is param(i).same_layout(grad), which callers know already or have a use for.
  void begin();
  void bind(std::size_t i, const ArrayView& grad, bool same_layout, const Where& where,
            bool use_momentum, bool first);
  // bind() for a gradient in CPU memory that has the dtype, shape and strides of its parameter,
  // which is one run. False, and nothing is bound, where bind() has to look closer.
  bool bind_alike(std::size_t i, const char* grad, bool use_momentum, bool first);
  // Whether the bound gradients can be judged so: what they share lies in one place.
  bool together(const std::vector<DenseGroup>& groups, const GivenOptions& options) const;
  // Throws ValueError if they cannot.
  void require_together(const std::vector<DenseGroup>& groups, const GivenOptions& options) const;
  // Where the bound gradients are, if all are on one device.
  std::optional<Place> one_device() const;
  // Whether counts on a device say what memory holds, for one of the bound tensors.
  bool counted() const { return cuda_.counted(); }
  // Counts for all of them together.
  void share_counts(CudaStepCounts* counts) { cuda_.share_counts(counts); }

  // Looks at the bound gradients; nothing is written. Nothing waits for a device. `squares`: by
  // tensor, where the sums of squares are known already; they may be of more than lies here.
  Found measure(const std::vector<DenseGroup>& groups, const GivenOptions& options,
                const std::vector<Measured>& others = {}, const SquareSums* squares = nullptr);
  // The sums of squares of the bound gradients, by tensor. Throws ValueError for one on a device.
  SquareSums squares();

  // Takes the step, with the gradients as they are or with their stages. Both release the GIL where
  // that pays. Of a learning rate in device memory only tensors on that device know.
  void run(const std::vector<DenseGroup>& groups, const Clipping& clipping = {});

  // Throws Overlap if an array meets memory that a step writes.
  void refuse(const ArrayView& read, const Where& where) const {
    written_.refuse(read, where, Extents());
  }

 private:
  struct Tensor {
    Extents param;
    char* momentum = nullptr;
    DType momentum_dtype = DType::f32;
    bool has_momentum = false;
    bool one_run = false;  // parameter and momentum are dense, aligned and laid out alike
    int group = 0;
  };
  // Fields that only the slow path reads. They lie apart so that the usual path touches one cache
  // line.
  struct Details {
    Where param_where, momentum_where;
    Extents momentum;
    Extents last_grad;  // whose layout differed from the parameter's
    std::unique_ptr<const Layout> layout;
    Extents average;
    Where average_where;
    std::unique_ptr<const Layout> average_layout;
    CudaStepCounts* counts = nullptr;
  };
  bool is_one_run(std::size_t i) const;
  std::vector<ByteRun> memory() const;
  bool lies_alike(const Tensor& tensor, const ArrayView& grad, bool same_layout) const;
  const Layout* layout_for(std::size_t i, const ArrayView& grad);
  void prepare_alike(std::size_t i);
  void list_gradients();
  void bind_averages(const std::vector<DenseGroup>& groups);
  void judge_devices(const std::vector<DenseGroup>& groups, const GivenOptions& options,
                     Found& found);

  std::vector<Tensor> tensors_;
  std::vector<Details> details_;
  WrittenMemory written_;
  // One for each tensor. Between steps most of it stays as it is, so that bind_alike() touches this
  // and nothing else of a tensor: inside a training loop the caches are cold and the step's cost is
  // the lines it touches.
  std::vector<DenseTensor> work_;
  std::vector<unsigned char> alike_;  // whether an entry is as bind_alike() leaves it
  std::vector<Average> averages_;     // by tensor, null where there is none; empty without any
  std::vector<Gradient> gradients_;   // what measure() looks at, and their groups: kept for their
  std::vector<int> group_of_;         // memory (support/recycled.h says why)
  // Tensors of the host without elements that take part in the step, with the dtypes of their
  // gradients: the kernels pass them over, but a norm has the type that it has with them, and other
  // processes may hold elements of theirs.
  std::vector<std::pair<std::size_t, DType>> empty_;
  std::int64_t bound_ = 0;  // elements
  std::uint64_t steps_ = 0;
  CudaSteps cuda_;
  std::vector<std::size_t> on_devices_;  // the tensors that are bound there
  PagesInUse pages_;                     // of the host's parameters, momenta and averages
};

}  // namespace subgrad
