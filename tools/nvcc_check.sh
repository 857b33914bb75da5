#!/usr/bin/env bash
# Compiles every rule for CUDA, so that nobody writes a formula that CUDA cannot take.
set -euo pipefail
cd "$(dirname "$0")/.."

if ! command -v nvcc >/dev/null; then
  echo "nvcc-check: SKIPPED, there is no nvcc on this machine"
  exit 0
fi
mkdir -p build/nvcc
for arch in 75 90 120; do
  if ! nvcc --list-gpu-arch | grep -x "compute_$arch" >/dev/null; then
    echo "nvcc-check: compute_$arch SKIPPED, this nvcc does not know it"
    continue
  fi
  nvcc -std=c++17 --fmad=false -Werror all-warnings -Icsrc \
    -gencode "arch=compute_$arch,code=[compute_$arch,sm_$arch]" \
    -c csrc/cuda/instantiate.cu -o "build/nvcc/instantiate_$arch.o"
  echo "nvcc-check: every rule compiles for compute_$arch"
done
