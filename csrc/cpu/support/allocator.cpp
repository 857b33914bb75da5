#include "cpu/support/allocator.h"

#include <cstdlib>

#include "cpu/support/huge_pages.h"

#if defined(__unix__) || defined(__APPLE__)
#include <dlfcn.h>
#endif
#if defined(__GLIBC__)
#include <gnu/libc-version.h>
#include <malloc.h>

#include <fstream>
#include <sstream>
#endif

namespace subgrad {
namespace {

#if defined(__unix__) || defined(__APPLE__)
// The file that has the function of this name which the process calls.
std::string file_of(const char* name) {
  void* const function = dlsym(RTLD_DEFAULT, name);
  Dl_info found;
  if (function == nullptr || dladdr(function, &found) == 0 || found.dli_fname == nullptr) return "";
  const std::string path = found.dli_fname;
  return path.substr(path.rfind('/') + 1);
}
#endif

#if defined(__GLIBC__)

// What glibc begins with, but for the heap's end: twice the largest size that its limit for blocks
// that are mapped by themselves comes to when it grows by itself.
constexpr int kMappings = 64 << 10, kTrim = 64 << 20, kPad = 128 << 10;
constexpr int kKeptPad = 16 << 20;

#endif

}  // namespace

Allocator allocator() {
#if defined(__GLIBC__)
  const std::string file = file_of("malloc"), free_file = file_of("free");
  const std::string libc = file_of("gnu_get_libc_version");
  if (file == libc && free_file == libc) {
    return {std::string("glibc ") + gnu_get_libc_version(), true};
  }
  return {file.empty() ? "another malloc" : file, false};
#elif defined(__APPLE__)
  return {"macOS", false};
#elif defined(__unix__)
  return {file_of("malloc"), false};
#else
  return {"another malloc", false};
#endif
}

bool keep_freed_memory() {
#if defined(__GLIBC__)
  const bool mapped = mallopt(M_MMAP_MAX, 0) == 1;
  const bool kept = mallopt(M_TRIM_THRESHOLD, -1) == 1;  // -1: the heap's end is never given back
  return mallopt(M_TOP_PAD, kKeptPad) == 1 && mapped && kept;
#else
  return false;
#endif
}

bool return_freed_memory() {
#if defined(__GLIBC__)
  const bool mapped = mallopt(M_MMAP_MAX, kMappings) == 1;
  const bool trimmed = mallopt(M_TRIM_THRESHOLD, kTrim) == 1;
  const bool padded = mallopt(M_TOP_PAD, kPad) == 1;
  malloc_trim(0);
  return mapped && trimmed && padded;
#else
  return false;
#endif
}

std::int64_t reserve_heap(std::int64_t bytes) {
  std::int64_t advised = 0;
#if defined(__GLIBC__)
  // It becomes free memory at the heap's end again, of which malloc has written one word. Volatile:
  // compilers leave out a block that nobody looks at.
  void* volatile block = std::malloc(static_cast<std::size_t>(bytes));
  std::free(block);
  if (huge_pages() == HugePages::off) return 0;
  std::ifstream maps("/proc/self/maps");
  std::string line;
  while (std::getline(maps, line)) {
    if (line.find("[heap]") == std::string::npos) continue;
    std::istringstream words(line);
    std::uintptr_t begin = 0, end = 0;
    char dash = 0;
    words >> std::hex >> begin >> dash >> end;
    if (words && advise_huge(reinterpret_cast<void*>(begin), end - begin)) {
      advised += static_cast<std::int64_t>(end - begin);
    }
  }
#else
  (void)bytes;
#endif
  return advised;
}

}  // namespace subgrad
