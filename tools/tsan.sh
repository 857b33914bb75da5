#!/usr/bin/env bash
# What runs in threads, on a build with ThreadSanitizer: sgf_threads, which is the kernels without
# Python, and threads of Python on the border (tests/tsan). Races that are put there on purpose must
# be reported, or nothing was checked.
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH=$PWD/.venv/bin:$PATH
site=$PWD/build/tsan/site

cmake --preset tsan -DPython_EXECUTABLE="$PWD/.venv/bin/python" \
  -Dpybind11_DIR="$(python -m pybind11 --cmakedir)"
cmake --build --preset tsan
rm -rf "$site"
cmake --install build/tsan --prefix "$site" >/dev/null
cp -R python/subgrad_fast "$site/"
echo 'raise ModuleNotFoundError("torch is hidden from this run", name="torch")' >"$site/torch.py"

# Some kernels place memory at random more widely than this runtime expects.
still=(setarch "$(uname -m)" --addr-no-randomize)
"${still[@]}" true 2>/dev/null || still=()
kernels=("${still[@]}" build/tsan/sgf_threads)
# The interpreter and NumPy are not instrumented: what they do to memory by themselves is not looked
# at. That the GIL orders what its holders do is seen, as it is made of a mutex.
border=("${still[@]}" env "PYTHONPATH=$site" TSAN_OPTIONS=ignore_noninstrumented_modules=1
  "LD_PRELOAD=$("${CXX:-c++}" -print-file-name=libtsan.so)" python -m tests.tsan.border)

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
