// Which code has run: GCC calls this at every basic block of what is compiled with
// -fsanitize-coverage=trace-pc. Counters by a hash of the address; tests/fuzz_bytes/guided.py reads
// and clears them.
#include <cstdint>

extern "C" {

constexpr int kCounterBits = 16;
[[gnu::visibility("default")]] std::uint8_t sgf_coverage[1 << kCounterBits];

// Not instrumented itself, or it would call itself for ever.
[[gnu::no_sanitize_coverage, gnu::no_sanitize("address", "undefined")]] void
__sanitizer_cov_trace_pc() {
  const auto address = reinterpret_cast<std::uint64_t>(__builtin_return_address(0));
  std::uint8_t& counter = sgf_coverage[address * 0x9e3779b97f4a7c15u >> (64 - kCounterBits)];
  if (counter < 255) ++counter;
}

}  // extern "C"
