// Where the arrays of a call are, and whose they are: the one question that decides between the
// launchers of the host and of a device.
#pragma once

#include "bindings/border/arrays.h"

namespace subgrad {

struct Place {
  int device = kHost;
  const DLPackExchangeAPI* library = nullptr;  // which tells the stream, and makes arrays

  Place() = default;
  explicit Place(const ArrayView& view) : device(view.device), library(view.api) {}
  Place(int number, const DLPackExchangeAPI* api) : device(number), library(api) {}

  bool on_host() const { return device == kHost; }
};

}  // namespace subgrad
