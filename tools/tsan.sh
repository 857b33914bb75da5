#!/usr/bin/env bash
# What runs in threads, on a build with ThreadSanitizer: sgf_threads, which is the kernels without
# Python, and threads of Python on the border (tests/tsan). Races that are put there on purpose must
# be reported, or nothing was checked.
set -euo pipefail
cd "$(dirname "$0")/.."
source tools/sanitized.sh
build_site tsan

# Some kernels place memory at random more widely than this runtime expects.
still=(setarch "$(uname -m)" --addr-no-randomize)
"${still[@]}" true 2>/dev/null || still=()
kernels=("${still[@]}" build/tsan/sgf_threads)
# The interpreter and NumPy are not instrumented: what they do to memory by themselves is not looked
# at. That the GIL orders what its holders do is seen, as it is made of a mutex.
border=("${still[@]}" env "PYTHONPATH=$PWD/build/tsan/hidden:$PWD/build/tsan/site" TSAN_OPTIONS=ignore_noninstrumented_modules=1
  "LD_PRELOAD=$(runtime libtsan.so)" python -m tests.tsan.border)

must_report() {
  local report=build/tsan/report.txt
  if ! "$@" >"$report" 2>&1 && grep 'WARNING: ThreadSanitizer: data race' "$report" >/dev/null; then
    return
  fi
  cat "$report" >&2
  echo "tsan: not reported: ${*: -1}" >&2
  exit 1
}
must_report "${kernels[@]}" race-between-calls
must_report "${kernels[@]}" race-in-a-region
must_report "${kernels[@]}" race-with-a-ring-worker
must_report "${border[@]}" race

"${kernels[@]}"
"${border[@]}"
"${border[@]}" shared
