"""The faults that `make cuda-mutants` puts into the CUDA kernels: a module for each kernel.

A module has the list MUTANTS, and TESTS: the files of tests/cuda/kernels/ that must find every one
of them.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Mutant:
    """`right`, wherever it stands in the file, becomes `wrong`."""

    name: str
    file: str  # below csrc/
    right: str
    wrong: str
