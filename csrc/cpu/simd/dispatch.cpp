// The ladder: implementations best first, each with the processor features it needs. Walk down,
// take the first that fits, decide once.
#include <atomic>
#include <cstdlib>
#include <stdexcept>
#include <string>
#include <string_view>

#include "cpu/kernel_table.h"

#if defined(SGF_HAVE_X86)
#include <cpuid.h>
#endif

namespace subgrad {
namespace {

bool always() { return true; }

#if defined(SGF_HAVE_X86)
// By hand, as clang's __builtin_cpu_supports does not know this one.
bool has_f16c() {
  unsigned eax, ebx, ecx = 0, edx;
  return __get_cpuid(1, &eax, &ebx, &ecx, &edx) != 0 && (ecx & bit_F16C) != 0;
}
bool has_avx2() {
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && has_f16c();
}
bool has_avx512() {
  return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}
#endif

struct Rung {
  const KernelTable* table;
  bool (*supported)();
};

constexpr Rung kLadder[] = {
#if defined(SGF_HAVE_X86)
    {&kAvx512Kernels, has_avx512},
    {&kAvx2Kernels, has_avx2},
#endif
#if defined(SGF_HAVE_NEON)
    {&kNeonKernels, always},
#endif
    {&kPortableKernels, always},
};

std::string available_names() {
  std::string names;
  for (const Rung& rung : kLadder) {
    if (!rung.supported()) continue;
    if (!names.empty()) names += ", ";
    names += rung.table->isa;
  }
  return names;
}

const KernelTable& choose(const char* name) {
  for (const Rung& rung : kLadder) {
    if (name != nullptr && std::string_view(name) != rung.table->isa) continue;
    if (rung.supported()) return *rung.table;
  }
  throw std::invalid_argument(
      std::string("SUBGRAD_FAST_ISA: '") + name +
      "' is unknown or not available here; available: " + available_names());
}

std::atomic<const KernelTable*> active{nullptr};

const KernelTable& activate(const char* name) {
  const char* wanted = name != nullptr ? name : std::getenv("SUBGRAD_FAST_ISA");
  if (wanted != nullptr && *wanted == '\0') wanted = nullptr;
  const KernelTable& table = choose(wanted);
  active.store(&table, std::memory_order_release);
  return table;
}

}  // namespace

const KernelTable& kernels() {
  const KernelTable* table = active.load(std::memory_order_acquire);
  return table != nullptr ? *table : activate(nullptr);
}

void select_isa(const char* name) { activate(name); }

void each_available_isa(void (*visit)(const char* name, void* context), void* context) {
  for (const Rung& rung : kLadder) {
    if (rung.supported()) visit(rung.table->isa, context);
  }
}

}  // namespace subgrad
