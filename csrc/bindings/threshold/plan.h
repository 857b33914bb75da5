// The arrays of one thresholded step, checked: what they are, how they lie, and that they do not
// meet in memory.
#pragma once

#include <deque>
#include <memory>
#include <vector>

#include "bindings/border/written_memory.h"
#include "cpu/threshold/threshold.h"

namespace subgrad {

class ThresholdPlan {
 public:
  // Lists of arrays of the same length; an entry of `residuals` or `momenta` may be None, and so
  // may the whole. Throws TypeError and ValueError that name the argument. With Memory::any all
  // arrays must be on one device, in the order of their parameters.
  ThresholdPlan(const py::object& params, const py::object& grads, const py::object& residuals,
                const py::object& momenta, Memory memory = Memory::host);

  std::size_t size() const { return tensors_.size(); }
  std::int64_t elements(std::size_t i) const { return tensors_[i].param.extents.size; }
  DType type(std::size_t i) const { return compute_dtype(tensors_[i].param.extents.dtype); }
  const Where& where(std::size_t i) const { return tensors_[i].param.where; }
  int types_row(std::size_t i) const { return tensors_[i].types_row; }
  bool has_momentum(std::size_t i) const { return tensors_[i].momentum.present(); }

  // Tensor i as the kernels take it. The momentum is left out where the rule has none.
  ThresholdSegment segment(std::size_t i, bool use_momentum) const;

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
    std::unique_ptr<const Layout> order;
    int types_row;
    std::vector<Operand*> operands();
  };

  void read_state(Tensor& tensor, Operand& operand, const py::object& array, const Where& where);
  static void lay_out(Tensor& tensor);
  void require_device(Tensor& tensor, const ArrayView& param);

  const Memory memory_;
  std::deque<Tensor> tensors_;  // whose addresses stay
  WrittenMemory written_;
};

}  // namespace subgrad
