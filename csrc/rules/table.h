// The explicit tables of rules and of element types. CPU dispatch, CUDA and the tests walk them, so
// adding a rule or a combination of types is adding a row here. No code knows where a row stands:
// row_of, dense_types_row and predicates find it.
#pragma once

#include <initializer_list>

#include "rules/sgd.h"

namespace subgrad {

struct SgdRow {
  Decay decay;
  Buffer buffer;
  bool nesterov;
  Prox prox;
};

inline constexpr SgdRow kSgdRows[] = {
    {Decay::none, Buffer::none, false, Prox::none},
    {Decay::none, Buffer::set, false, Prox::none},
    {Decay::none, Buffer::accumulate, false, Prox::none},
    {Decay::none, Buffer::set, true, Prox::none},
    {Decay::none, Buffer::accumulate, true, Prox::none},
    {Decay::coupled, Buffer::none, false, Prox::none},
    {Decay::coupled, Buffer::set, false, Prox::none},
    {Decay::coupled, Buffer::accumulate, false, Prox::none},
    {Decay::coupled, Buffer::set, true, Prox::none},
    {Decay::coupled, Buffer::accumulate, true, Prox::none},
    {Decay::decoupled, Buffer::none, false, Prox::none},
    {Decay::decoupled, Buffer::set, false, Prox::none},
    {Decay::decoupled, Buffer::accumulate, false, Prox::none},
    {Decay::decoupled, Buffer::set, true, Prox::none},
    {Decay::decoupled, Buffer::accumulate, true, Prox::none},
    {Decay::none, Buffer::none, false, Prox::l1},
    {Decay::none, Buffer::set, false, Prox::l1},
    {Decay::none, Buffer::accumulate, false, Prox::l1},
    {Decay::none, Buffer::set, true, Prox::l1},
    {Decay::none, Buffer::accumulate, true, Prox::l1},
    {Decay::coupled, Buffer::none, false, Prox::l1},
    {Decay::coupled, Buffer::set, false, Prox::l1},
    {Decay::coupled, Buffer::accumulate, false, Prox::l1},
    {Decay::coupled, Buffer::set, true, Prox::l1},
    {Decay::coupled, Buffer::accumulate, true, Prox::l1},
    {Decay::decoupled, Buffer::none, false, Prox::l1},
    {Decay::decoupled, Buffer::set, false, Prox::l1},
    {Decay::decoupled, Buffer::accumulate, false, Prox::l1},
    {Decay::decoupled, Buffer::set, true, Prox::l1},
    {Decay::decoupled, Buffer::accumulate, true, Prox::l1},
};
inline constexpr int kSgdRules = sizeof kSgdRows / sizeof kSgdRows[0];

// The row of kSgdRows, or -1 for Nesterov without a buffer, which is no rule.
constexpr int row_of(Decay decay, Buffer buffer, bool nesterov, Prox prox) {
  for (int i = 0; i < kSgdRules; ++i) {
    const SgdRow& row = kSgdRows[i];
    if (row.decay == decay && row.buffer == buffer && row.nesterov == nesterov &&
        row.prox == prox) {
      return i;
    }
  }
  return -1;
}

constexpr bool each_rule_has_one_row() {
  int rules = 0;
  for (const Decay decay : {Decay::none, Decay::coupled, Decay::decoupled}) {
    for (const Buffer buffer : {Buffer::none, Buffer::set, Buffer::accumulate}) {
      for (const bool nesterov : {false, true}) {
        for (const Prox prox : {Prox::none, Prox::l1}) {
          if (nesterov && buffer == Buffer::none) continue;
          if (row_of(decay, buffer, nesterov, prox) < 0) return false;
          ++rules;
        }
      }
    }
  }
  return rules == kSgdRules;
}
static_assert(each_rule_has_one_row());

// The row a step needs. A zero weight decay or momentum is left out rather than multiplied by, as
// torch does: 0 * Inf would be NaN. So is a zero l1, at no cost to those without. `first` says that
// the momentum buffer holds nothing yet.
inline int sgd_rule(const SgdParams& p, bool first) {
  const Decay decay = p.weight_decay == 0.0      ? Decay::none
                      : p.decoupled_weight_decay ? Decay::decoupled
                                                 : Decay::coupled;
  const Buffer buffer = p.momentum == 0.0 ? Buffer::none : first ? Buffer::set : Buffer::accumulate;
  const bool nesterov = p.nesterov && buffer != Buffer::none;
  return row_of(decay, buffer, nesterov, p.l1 == 0.0 ? Prox::none : Prox::l1);
}

// The rules of a thresholded step's two parts (threshold_parts in rules/threshold.h). Decoupled
// decay is left to the application and coupled decay to the direction; neither has a proximal
// operator.
constexpr bool is_direction(const SgdRow& row) {
  return row.decay != Decay::decoupled && row.prox == Prox::none;
}
constexpr bool is_application(const SgdRow& row) {
  return row.decay != Decay::coupled && row.prox == Prox::none;
}

inline namespace SGF_ISA {
template <class C, int row>
using SgdRule =
    Sgd<C, kSgdRows[row].decay, kSgdRows[row].buffer, kSgdRows[row].nesterov, kSgdRows[row].prox>;
}

// Element types of one tensor's parameter, gradient and momentum.
struct DenseTypes {
  DType param, grad, momentum;
};

// The gradient has the parameter's type or any of f32, bf16, f16; the momentum the parameter's or
// f32.
inline constexpr DenseTypes kDenseTypes[] = {
    {DType::f32, DType::f32, DType::f32},   {DType::f32, DType::bf16, DType::f32},
    {DType::f32, DType::f16, DType::f32},   {DType::f64, DType::f64, DType::f64},
    {DType::f64, DType::f32, DType::f64},   {DType::f64, DType::bf16, DType::f64},
    {DType::f64, DType::f16, DType::f64},   {DType::f64, DType::f64, DType::f32},
    {DType::f64, DType::f32, DType::f32},   {DType::f64, DType::bf16, DType::f32},
    {DType::f64, DType::f16, DType::f32},   {DType::bf16, DType::bf16, DType::bf16},
    {DType::bf16, DType::f32, DType::bf16}, {DType::bf16, DType::f16, DType::bf16},
    {DType::bf16, DType::bf16, DType::f32}, {DType::bf16, DType::f32, DType::f32},
    {DType::bf16, DType::f16, DType::f32},  {DType::f16, DType::f16, DType::f16},
    {DType::f16, DType::f32, DType::f16},   {DType::f16, DType::bf16, DType::f16},
    {DType::f16, DType::f16, DType::f32},   {DType::f16, DType::f32, DType::f32},
    {DType::f16, DType::bf16, DType::f32},
};
inline constexpr int kDenseTypeRows = sizeof kDenseTypes / sizeof kDenseTypes[0];

// Row of kDenseTypes, or -1 where there is no such combination.
inline int dense_types_row(DType param, DType grad, DType momentum) {
  struct Lookup {
    std::int8_t row[kDTypes][kDTypes][kDTypes];
    constexpr Lookup() : row() {
      for (auto& plane : row) {
        for (auto& line : plane) {
          for (auto& cell : line) cell = -1;
        }
      }
      for (int i = 0; i < kDenseTypeRows; ++i) {
        const DenseTypes& t = kDenseTypes[i];
        row[int(t.param)][int(t.grad)][int(t.momentum)] = static_cast<std::int8_t>(i);
      }
    }
  };
  static constexpr Lookup lookup;
  return lookup.row[int(param)][int(grad)][int(momentum)];
}

}  // namespace subgrad
