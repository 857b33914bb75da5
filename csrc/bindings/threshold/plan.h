// The arrays of one thresholded step, checked: what they are, how they lie, and that they do not
// meet in memory.
#pragma once

#include <deque>
#include <memory>
#include <vector>

#include "bindings/border/new_arrays.h"
#include "bindings/border/written_memory.h"
#include "core/work.h"
#include "cpu/support/layout.h"

namespace subgrad {

class ThresholdPlan {
 public:
  // Adds a tensor, with None for a residual or a momentum that it has not; `index` is -1 where it
  // is the only one. Throws TypeError and ValueError that name the argument. On a device all its
  // arrays must be in the order of the parameter.
  void add(const py::object& param, const py::object& grad, const py::object& residual,
           const py::object& momentum, std::ptrdiff_t index);

  // Call once after the last add: refuses arrays that share memory.
  void seal();

  std::size_t size() const { return tensors_.size(); }
  std::int64_t elements(std::size_t i) const { return tensors_[i].param.extents.size; }
  DType type(std::size_t i) const { return compute_dtype(tensors_[i].param.extents.dtype); }
  const Place& place(std::size_t i) const { return tensors_[i].place; }
  Source source(std::size_t i) const { return tensors_[i].source; }  // of the parameter
  const Where& where(std::size_t i) const { return tensors_[i].param.where; }
  bool has_momentum(std::size_t i) const { return tensors_[i].momentum.present(); }

  // Tensor i as the kernels take it. The momentum is left out where the rule has none.
  ThresholdTensor tensor(std::size_t i, bool use_momentum) const;

  // The order in which the elements of tensor i are counted; null where that is row-major.
  const Layout* order(std::size_t i) const { return tensors_[i].order.get(); }

 private:
  struct Operand {
    Where where;
    Extents extents;
    std::unique_ptr<const Layout> layout;  // null: one run of memory
    bool present() const { return where.argument != nullptr; }
    ThresholdOperand operand() const { return {extents.data, layout.get()}; }
  };
  struct Tensor {
    Operand param, grad, momentum, residual;
    ArrayView grad_view;
    Place place;
    Source source;
    std::unique_ptr<const Layout> order;
    int types;
    std::vector<Operand*> operands();
  };

  void read_state(Tensor& tensor, Operand& operand, const py::object& array, const Where& where);
  static void lay_out(Tensor& tensor);
  static void require_device(Tensor& tensor);

  std::deque<Tensor> tensors_;  // whose addresses stay
  WrittenMemory written_;
};

}  // namespace subgrad
