# Sourced: an instrumented module in a directory of its own, and Python in the environment.

export PATH=$PWD/.venv/bin:$PATH

# Builds a preset of CMakePresets.json and installs it into build/PRESET/site. In build/PRESET/hidden
# is a torch that cannot be imported: torch's libraries are not instrumented.
build_site() {
  local preset=$1 site=build/$1/site
  cmake --preset "$preset" -DPython_EXECUTABLE="$PWD/.venv/bin/python" \
    -Dpybind11_DIR="$(python -m pybind11 --cmakedir)"
  cmake --build --preset "$preset"
  rm -rf "$site"
  cmake --install "build/$preset" --prefix "$site" >/dev/null
  cp -R python/subgrad_fast "$site/"
  mkdir -p "build/$preset/hidden"
  echo 'raise ModuleNotFoundError("torch is hidden from this run", name="torch")' \
    >"build/$preset/hidden/torch.py"
}

# Where a runtime of the compiler's is, which must be loaded before an interpreter that has none.
runtime() { "${CXX:-c++}" -print-file-name="$1"; }
