// Zeros over many arrays at once.
#pragma once

#include <cstdint>
#include <vector>

namespace subgrad {

struct Run {
  char* begin;
  std::int64_t bytes;
};

// Writes zeros over every run, in one parallel region, or in none where the work is too small to
// share. Runs may share memory: each byte is written once. Reorders `runs`.
void write_zeros(std::vector<Run>& runs);

}  // namespace subgrad
