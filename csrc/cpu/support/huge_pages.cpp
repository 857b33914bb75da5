#include "cpu/support/huge_pages.h"

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <fstream>
#include <sstream>
#include <stdexcept>
#include <string_view>
#include <utility>

#include "cpu/support/parallel.h"

#if defined(__linux__)
#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>
#endif

namespace subgrad {
namespace {

using Address = std::uintptr_t;
using Parts = std::vector<std::pair<Address, Address>>;

constexpr Address kBlock = static_cast<Address>(kHugePage);

Address address(const char* p) { return reinterpret_cast<Address>(p); }
const char* pointer(Address a) { return reinterpret_cast<const char*>(a); }

HugePages read_setting() {
  const char* const word = std::getenv("SUBGRAD_FAST_HUGE_PAGES");
  const std::string_view said = word == nullptr ? "" : word;
  if (said.empty() || said == "auto") return HugePages::automatic;
  if (said == "now") return HugePages::now;
  if (said == "off") return HugePages::off;
  throw std::invalid_argument("SUBGRAD_FAST_HUGE_PAGES: expected auto, off or now, got '" +
                              std::string(said) + "'");
}

// The runs in order, without what two of them share.
Parts parts_of(const std::vector<ByteRun>& runs) {
  Parts parts;
  for (const ByteRun& run : runs) {
    if (run.bytes > 0) {
      parts.emplace_back(address(run.begin), address(run.begin) + static_cast<Address>(run.bytes));
    }
  }
  std::sort(parts.begin(), parts.end());
  Address end = 0;
  for (auto& [begin, part_end] : parts) {
    begin = std::max(begin, std::min(end, part_end));
    end = std::max(end, part_end);
  }
  return parts;
}

// What is private to the process, may be written and has no file behind it, in order.
Parts private_memory() {
  Parts found;
  std::ifstream maps("/proc/self/maps");
  std::string line;
  while (std::getline(maps, line)) {
    std::istringstream words(line);
    Address begin = 0, end = 0;
    char dash = 0;
    std::string rights, offset, device, inode;
    words >> std::hex >> begin >> dash >> end >> rights >> offset >> device >> inode;
    if (words && rights == "rw-p" && inode == "0") found.emplace_back(begin, end);
  }
  return found;
}

#if defined(__linux__)

// Of <linux/fs.h> since 6.7: which pages of a range are parts of huge ones.
struct PageRegion {
  std::uint64_t start, end, categories;
};
struct PageScan {
  std::uint64_t size, flags, start, end, walk_end, regions, regions_length, most_pages;
  std::uint64_t inverted, wanted, any_of, returned;
};
constexpr std::uint64_t kPageIsHuge = 1 << 6;
constexpr unsigned long kPageScan = _IOWR('f', 16, PageScan);

#endif

}  // namespace

HugePages huge_pages() {
  static const HugePages said = read_setting();
  return said;
}

const char* name_of(HugePages setting) {
  switch (setting) {
    case HugePages::automatic:
      return "auto";
    case HugePages::now:
      return "now";
    case HugePages::off:
      break;
  }
  return "off";
}

bool advise_huge(const void* begin, std::size_t bytes) {
#if defined(__linux__)
  if (bytes < kBlock || huge_pages() == HugePages::off) return false;
  const Address start = reinterpret_cast<Address>(begin);
  const Address first = (start + kBlock - 1) / kBlock * kBlock;
  const Address end = (start + bytes) / kBlock * kBlock;
  return first < end && madvise(reinterpret_cast<void*>(first), end - first, MADV_HUGEPAGE) == 0;
#else
  (void)begin, (void)bytes;
  return false;
#endif
}

std::vector<const char*> huge_blocks(std::vector<ByteRun> runs) {
  std::vector<const char*> blocks;
#if defined(__linux__)
  const Parts allowed = private_memory();
  auto area = allowed.begin();
  Address block = 0, covered = 0;
  const auto close = [&] {
    if (covered < kBlock / 2) return;
    while (area != allowed.end() && area->second < block + kBlock) ++area;
    if (area != allowed.end() && area->first <= block) blocks.push_back(pointer(block));
  };
  for (auto [begin, end] : parts_of(runs)) {
    while (begin < end) {
      const Address its = begin / kBlock * kBlock;
      if (its != block) {
        close();
        block = its;
        covered = 0;
      }
      const Address upto = std::min(end, its + kBlock);
      covered += upto - begin;
      begin = upto;
    }
  }
  close();
#else
  (void)runs;
#endif
  return blocks;
}

Collapsed collapse(const char* block) {
#if defined(__linux__)
  constexpr int advice = 25;  // MADV_COLLAPSE, since 6.1
  if (madvise(const_cast<char*>(block), kBlock, advice) == 0) return Collapsed::yes;
  return errno == EAGAIN || errno == EBUSY || errno == ENOMEM ? Collapsed::busy
                                                              : Collapsed::refused;
#else
  (void)block;
  return Collapsed::refused;
#endif
}

std::int64_t bytes_on_huge_pages(const std::vector<ByteRun>& runs) {
#if defined(__linux__)
  const int file = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
  if (file < 0) return -1;
  std::int64_t bytes = 0;
  constexpr Address page = 4096;
  for (const auto& [begin, end] : parts_of(runs)) {
    Address at = begin / page * page;
    while (bytes >= 0 && at < end) {
      PageRegion regions[64];
      PageScan scan{};
      scan.size = sizeof scan;
      scan.start = at;
      scan.end = (end + page - 1) / page * page;
      scan.regions = reinterpret_cast<Address>(regions);
      scan.regions_length = 64;
      scan.wanted = scan.returned = kPageIsHuge;
      const int n = ioctl(file, kPageScan, &scan);
      if (n < 0) {
        bytes = -1;
        break;
      }
      for (int i = 0; i < n; ++i) {
        const Address from = std::max<Address>(regions[i].start, begin);
        const Address to = std::min<Address>(regions[i].end, end);
        if (from < to) bytes += static_cast<std::int64_t>(to - from);
      }
      if (scan.walk_end <= at) break;
      at = scan.walk_end;
    }
  }
  close(file);
  return bytes;
#else
  (void)runs;
  return -1;
#endif
}

std::int64_t collapse_all(const std::vector<ByteRun>& runs) {
  std::int64_t bytes = 0;
  for (const char* const block : huge_blocks(runs)) {
    Collapsed done = collapse(block);
    for (int i = 1; i < PagesInUse::kTries && done == Collapsed::busy; ++i) done = collapse(block);
    if (done == Collapsed::yes) bytes += kHugePage;
  }
  return bytes;
}

void PagesInUse::begin(const std::vector<ByteRun>& runs) {
  begun_ = true;
  std::int64_t bytes = 0;
  for (const ByteRun& run : runs) bytes += run.bytes;
  // In a child of fork() pages are shared with the parent; to collapse them would copy them.
  if (huge_pages() == HugePages::off || bytes < kLeast || forked()) {
    over_ = true;
    return;
  }
  blocks_ = huge_blocks(runs);
}

void PagesInUse::go_on() {
  using Clock = std::chrono::steady_clock;
  const bool now = huge_pages() == HugePages::now;
  for (int i = 0; !over_ && (now || (i < kBlocksAStep && earned_ns_ > 0)); ++i) {
    if (next_ == blocks_.size() || forked()) {
      over_ = true;
      break;
    }
    const Clock::time_point start = Clock::now();
    const Collapsed done = collapse(blocks_[next_]);
    const std::chrono::nanoseconds spent = Clock::now() - start;
    earned_ns_ -= spent.count();
    if (done != Collapsed::busy) {
      busy_ = 0;
    } else if (++busy_ % kTries != 0) {
      continue;
    } else if (busy_ >= kMostBusy) {
      over_ = true;  // there are no huge pages to be had
      break;
    }
    ++next_;
  }
  if (over_ || next_ == blocks_.size()) {
    over_ = true;
    blocks_ = {};
    next_ = 0;
  }
}

}  // namespace subgrad
