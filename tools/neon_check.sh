#!/usr/bin/env bash
# Runs the kernels on fixed vectors twice, here and as an aarch64 program under qemu, and compares
# the hash of every case: NEON must give the same bits as this machine's ISAs.
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH=$PWD/.venv/bin:$PATH

missing=()
command -v aarch64-linux-gnu-g++ >/dev/null || missing+=(g++-aarch64-linux-gnu)
command -v qemu-aarch64 >/dev/null || missing+=(qemu-user)
if ((${#missing[@]})); then
  echo "test-neon: needs a cross compiler and an emulator; on Debian or Ubuntu:" \
    "apt install ${missing[*]}" >&2
  exit 1
fi

cmake --preset neon
cmake --build --preset neon
# The same for this machine is built together with the package.
here=$(ls -t build/*-*-*/sgf_vectors | head -n 1)
"$here" >build/neon/hashes_here.txt
qemu-aarch64 -L /usr/aarch64-linux-gnu build/neon/sgf_vectors \
  >build/neon/hashes.txt 2>build/neon/isas.txt || { cat build/neon/isas.txt >&2; exit 1; }

cases=$(wc -l <build/neon/hashes.txt)
if ((cases == 0)) || ! grep '^neon: ' build/neon/isas.txt >/dev/null; then
  echo "test-neon: the NEON kernels were not run" >&2
  exit 1
fi
diff build/neon/hashes_here.txt build/neon/hashes.txt ||
  { echo "test-neon: the cases above differ" >&2; exit 1; }

# tests/project/test_hygiene.py says why, and checks the objects of this machine.
find build/neon -name 'isa_neon.cpp.o' -exec nm --defined-only --format=posix {} + |
  awk '$2 ~ /^[WVu]$/ && $1 !~ /8isa_neon/ && $1 !~ /^DW\.ref\./ { print; found = 1 }
       END { exit found }' ||
  { echo "test-neon: the weak symbols above escape their ISA namespace" >&2; exit 1; }
echo "test-neon: $cases passed, 0 failed (same bits here and on aarch64)"
