#!/usr/bin/env bash
# sdist -> wheel -> import in an empty directory, in a new environment, without torch: what a user
# gets from a package index must not depend on anything that only this checkout has.
set -euo pipefail
cd "$(dirname "$0")/.."
python=$PWD/.venv/bin/python
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

"$python" -m build --sdist --no-isolation --outdir "$work/sdist" . >"$work/log" 2>&1 ||
  { cat "$work/log"; exit 1; }
tar -tzf "$work"/sdist/*.tar.gz >"$work/files"
if grep -E '^[^/]+/(build|\.ci|\.venv)/' "$work/files"; then
  echo "sdist-check: the files above do not belong in the sdist" >&2
  exit 1
fi

# With build isolation: [build-system] must name everything that the build needs. CUDA kernels and
# optimisation would take minutes and prove nothing more.
SKBUILD_CMAKE_DEFINE=SUBGRAD_CUDA=OFF SKBUILD_CMAKE_BUILD_TYPE=Debug "$python" -m pip wheel --quiet --no-deps --wheel-dir "$work/wheel" "$work"/sdist/*.tar.gz
"$python" -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check "$work"/wheel/*.whl

mkdir "$work/empty"
cd "$work/empty"
"$work/venv/bin/python" -I -c 'import torch' 2>/dev/null &&
  { echo "sdist-check: is for an environment without torch" >&2; exit 1; }
"$work/venv/bin/python" -I "$OLDPWD/tools/smoke.py"

command="$work/venv/bin/subgrad-fast"
"$command" --version
"$command" info --json >info.json
"$command" bench --quick --rows draws --threads 1 --json rows.json 2>/dev/null >rows.md
grep -q 'different of 1e8' rows.md
"$command" bench --show rows.json --against rows.json >both.md
grep -q 'time of ours' both.md
