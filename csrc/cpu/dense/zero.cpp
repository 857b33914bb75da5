#include "cpu/dense/zero.h"

#include <algorithm>
#include <cstring>

#include "cpu/support/share.h"

namespace subgrad {
namespace {

// What two runs share stays with the first alone, so that no two threads write the same byte.
void part(std::vector<Run>& runs) {
  std::sort(runs.begin(), runs.end(), [](const Run& a, const Run& b) { return a.begin < b.begin; });
  char* written = nullptr;
  for (Run& r : runs) {
    char* const end = r.begin + r.bytes;
    r.begin = std::max(r.begin, std::min(written, end));
    r.bytes = end - r.begin;
    written = std::max(written, end);
  }
}

}  // namespace

void write_zeros(std::vector<Run>& runs) {
  constexpr std::int64_t line = 64;
  part(runs);
  const auto load_of = [&](std::size_t i) { return Load{runs[i].bytes, 1, line}; };
  share_work(runs.size(), load_of, [&](std::size_t i, std::int64_t begin, std::int64_t end) {
    std::memset(runs[i].begin + begin, 0, static_cast<std::size_t>(end - begin));
  });
}

}  // namespace subgrad
