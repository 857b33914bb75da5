#!/usr/bin/env bash
# The kernel part of the test suite and a little of tests/fuzz, on a build with AddressSanitizer and
# UBSan. With arguments: Python with these, on that build. Only the fuzzers see torch, whose
# libraries are not instrumented.
set -euo pipefail
cd "$(dirname "$0")/.."
source tools/sanitized.sh
build_site asan
site=$PWD/build/asan/site hidden=$PWD/build/asan/hidden

# A module that is not instrumented would pass everything.
nm -D "$site"/subgrad_fast/_core*.so | grep __asan_init >/dev/null ||
  { echo "sanitize: the module is not instrumented" >&2; exit 1; }

# The interpreter frees nothing at exit: leaks are not looked for.
export ASAN_OPTIONS=detect_leaks=0
export UBSAN_OPTIONS=print_stacktrace=1
export PYTHONPATH=$hidden:$site
libraries="$(runtime libasan.so) $(runtime libubsan.so)"
sanitized() { LD_PRELOAD=$libraries python "$@"; }
if (($#)); then
  sanitized "$@"
  exit
fi

sanitized -m pytest -n 2 --dist loadfile -p no:cacheprovider -m "not slow and not torch" \
  tests/dense tests/border/test_arrays.py tests/rows/test_step.py tests/threshold/test_step.py \
  tests/sparsify/test_functions.py tests/sparsify/test_masks.py tests/exchange/test_entries.py \
  tests/sampling/test_philox.py tests/sampling/test_permutation.py tests/sampling/test_weighted.py \
  tests/project/test_dispatch.py tests/fuzz_bytes
# The same lives every time: a change is not held up by a fault that was there before. The allocator
# of GCC's runtime is at times locked for ever in a forked child.
FUZZ_WITHOUT=fork,kill PYTHONPATH=$site sanitized -m tests.fuzz --minutes 0.3 --seed 1
