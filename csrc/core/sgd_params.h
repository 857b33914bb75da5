// The terms of one SGD step as the user gives them. A new term is a field, a row of the list below
// it, and a line of the formula (rules/sgd.h).
#pragma once

#include <cstdint>
#include <limits>

namespace subgrad {

// What a term that may be left out is without it: Python's None.
inline constexpr double kAbsent = std::numeric_limits<double>::infinity();

// torch's names and meanings. Rules turn these numbers into the coefficients that their arithmetic
// needs.
struct SgdParams {
  double lr = 0.0;
  double momentum = 0.0;
  double dampening = 0.0;
  double weight_decay = 0.0;
  bool nesterov = false;
  bool maximize = false;
  bool decoupled_weight_decay = false;
  double l1 = 0.0;
  double max_norm = kAbsent;
  double clip_value = kAbsent;
  double ema_decay = kAbsent;
};

// Who else knows a field: the param_groups of torch's SGD hold it; those of ours may; or nobody,
// and an optimizer cannot be told of it.
enum class SgdHome : std::uint8_t { torch, optimizer, step };

// What is known of a field, so that whoever reads, compares or prints the terms need not name them.
// One of the two members is set.
struct SgdField {
  const char* name;
  double SgdParams::* number;
  bool SgdParams::* flag;
  SgdHome home;
  bool any_sign = false;  // of a number: it may be negative
  bool optional = false;  // of a number: it may be left out
  bool share = false;     // of a number: it is at most 1
};

inline constexpr SgdField kSgdFields[] = {
    {"lr", &SgdParams::lr, nullptr, SgdHome::torch},
    {"momentum", &SgdParams::momentum, nullptr, SgdHome::torch},
    {"dampening", &SgdParams::dampening, nullptr, SgdHome::torch, true},
    {"weight_decay", &SgdParams::weight_decay, nullptr, SgdHome::torch},
    {"nesterov", nullptr, &SgdParams::nesterov, SgdHome::torch},
    {"maximize", nullptr, &SgdParams::maximize, SgdHome::torch},
    {"decoupled_weight_decay", nullptr, &SgdParams::decoupled_weight_decay, SgdHome::step},
    {"l1", &SgdParams::l1, nullptr, SgdHome::optimizer},
    {"max_norm", &SgdParams::max_norm, nullptr, SgdHome::optimizer, false, true},
    {"clip_value", &SgdParams::clip_value, nullptr, SgdHome::optimizer, false, true},
    {"ema_decay", &SgdParams::ema_decay, nullptr, SgdHome::optimizer, false, true, true},
};
inline constexpr int kSgdFieldCount = sizeof kSgdFields / sizeof kSgdFields[0];

}  // namespace subgrad
