// The SGD step on the rows of parameters that a row-sparse gradient names.
#pragma once

#include <cstdint>
#include <vector>

#include "core/sgd_params.h"
#include "core/types.h"
#include "core/work.h"
#include "cpu/clip/norm.h"
#include "cpu/rows/history.h"

namespace subgrad {

// One parameter's part of a step. Rows are runs of `length` elements, a fixed distance in bytes
// apart. `values` has one gradient row for each of the n row numbers, which lie inside the
// parameter.
struct RowSegment {
  char* param;
  std::int64_t param_stride;
  char* momentum;  // null: the rule has none
  std::int64_t momentum_stride;
  const char* values;
  std::int64_t value_stride;
  const std::int64_t* rows;
  std::int64_t n;
  std::int64_t length;
  DType param_type, value_type, momentum_type;  // a combination of kDenseTypes
  RowHistory* history;  // not null: rows that are not named take the step too, later
  bool first;           // with a history: momentum holds nothing yet
};

inline RowMemory memory_of(const RowSegment& s) {
  return {s.param,  s.param_stride, s.momentum,     s.momentum_stride,
          s.length, s.param_type,   s.momentum_type};
}

class Duplicates;
class RowStepper;

// A step on the rows that are named, each once, with the sum of its gradients, added in the order
// of their positions in the type that the parameter is computed in. Rows that are not named are
// neither read nor written, and nothing grows with their number. Scratch: 32 bytes for each row
// number, 8 more while gradients are measured.
//
// The same bits for any number of threads.
class RowWork {
 public:
  // Both are kept by address.
  RowWork(const std::vector<RowSegment>& segments, const SgdParams& params);
  ~RowWork();
  RowWork(const RowWork&) = delete;
  RowWork& operator=(const RowWork&) = delete;

  // By segment, of the sums that rows are stepped with; added in the order in which rows are first
  // named.
  SquareSums square_sums();

  // Takes the step, once; `stages`, by segment or empty, are for those sums. Without a history, a
  // momentum row that is all zeros holds nothing: it is set, as in a first step.
  void run(const Stages& stages);

 private:
  struct Slot {
    std::size_t segment;
    std::int64_t part;
  };
  template <class Body>
  void for_all(int threads, const std::vector<Slot>& slots, const Body& body);
  template <class Then>
  void link(const Then& then);
  template <class Visit>
  Recycled<double> by_block(const Visit& visit);

  const std::vector<RowSegment>& segments_;
  const SgdParams& params_;
  int threads_, dealing_threads_;
  std::int64_t work_;         // bytes, and what else takes a thread as long
  std::int64_t longest_ = 0;  // of the rows that are shared among threads one by one
  bool linked_ = false;
  std::vector<Duplicates> duplicates_;  // by segment
  std::vector<RowStepper> steppers_;    // by segment
  std::vector<Slot> chunks_, buckets_;
};

// Sets `count` rows of `row_bytes` bytes, `stride` bytes apart, to zeros.
void clear_rows(char* rows, std::int64_t stride, std::int64_t count, std::int64_t row_bytes);

}  // namespace subgrad
