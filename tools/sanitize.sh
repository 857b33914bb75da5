#!/usr/bin/env bash
# The kernel part of the test suite, on a build with AddressSanitizer and UBSan and without torch,
# whose libraries are not instrumented. With arguments: Python with these, on that build.
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH=$PWD/.venv/bin:$PATH
site=$PWD/build/asan/site

cmake --preset asan -DPython_EXECUTABLE="$PWD/.venv/bin/python" \
  -Dpybind11_DIR="$(python -m pybind11 --cmakedir)"
cmake --build --preset asan
rm -rf "$site"
cmake --install build/asan --prefix "$site" >/dev/null
cp -R python/subgrad_fast "$site/"
echo 'raise ModuleNotFoundError("torch is hidden from this run", name="torch")' >"$site/torch.py"

# A module that is not instrumented would pass everything.
nm -D "$site"/subgrad_fast/_core*.so | grep __asan_init >/dev/null ||
  { echo "sanitize: the module is not instrumented" >&2; exit 1; }

# The interpreter is not instrumented, so the runtimes must be loaded before it. It frees nothing at
# exit: leaks are not looked for.
compiler=${CXX:-c++}
export PYTHONPATH=$site
export ASAN_OPTIONS=detect_leaks=0
export UBSAN_OPTIONS=print_stacktrace=1
libraries="$("$compiler" -print-file-name=libasan.so) $("$compiler" -print-file-name=libubsan.so)"
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
if [[ -d tests/fuzz ]]; then sanitized -m tests.fuzz --minutes 0.3; fi
