// Hints for memory that is visited in random order. The processor cannot guess which row is next;
// whoever holds the list of rows can tell it.
#pragma once

#include <algorithm>
#include <cstdint>

#include "core/macros.h"

namespace subgrad {

inline constexpr std::int64_t kLineBytes = 64;

// Rows are hinted into the second-level cache, whose queue of misses is several times longer than
// the first's, this far ahead of their use.
inline constexpr std::int64_t kAheadBytes = 16 << 10;

// Of a long row only the beginning is hinted: the rest is a stream, which the processor sees
// itself.
inline constexpr std::int64_t kMaxHintBytes = 2048;

// Always inline, and so must be whatever does nothing but call it: GCC 12 takes such a function for
// one without effects and drops the calls.
SGF_INLINE void hint(const char* line) {
#if defined(__GNUC__)
  __builtin_prefetch(line, 0, 2);
#else
  (void)line;
#endif
}

SGF_INLINE void hint_row(const char* row, std::int64_t bytes) {
  const std::int64_t end = std::min(bytes, kMaxHintBytes);
  for (std::int64_t at = 0; at < end; at += kLineBytes) hint(row + at);
  if (bytes > 16) hint(row + end - 1);  // rows need not begin on a line; NumPy aligns to 16 bytes
}

// How many rows of so many bytes to look ahead.
inline std::int64_t rows_ahead(std::int64_t row_bytes) {
  return std::max<std::int64_t>(2, kAheadBytes / std::clamp(row_bytes, kLineBytes, kMaxHintBytes));
}

}  // namespace subgrad
