"""Benchmarks of the library against its peers, to be run from a checkout.

`subgrad_fast.bench` times them; here is what is timed, and the page of figures.
"""

SUBJECTS = (
    *("dense", "threshold", "rows", "chosen", "select", "sparsify", "sampling", "loading"),
    *("memory", "cuda"),
)
"""The folders with rows, in the order in which they are run and shown."""
