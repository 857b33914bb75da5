"""Faults for the gathering of batches."""

from . import Mutant

TESTS = ("test_gather.py",)
LOADING = "cuda/loading.cu"
MUTANTS = [
    Mutant(
        "pack-behind-the-end", LOADING, "if (at < part.packs) rein", "if (at <= part.packs) rein"
    ),
    Mutant("index-behind-the-end", LOADING, "part.packs - 1);", "part.packs);"),
    Mutant("row-of-the-first-pack", LOADING, "indices[row[u]]", "indices[row[0]]"),
    Mutant(
        "gap-ignored", LOADING, "index[u] * part.stride", "index[u] * part.per_row * part.width"
    ),
    Mutant("array-of-another-block", LOADING, "first_block <= block)", "first_block < block)"),
    Mutant("block-of-another-array", LOADING, "(block - part.first_block) *", "block *"),
    Mutant(
        "source-not-aligned",
        LOADING,
        "reinterpret_cast<std::uintptr_t>(array.source.data) |",
        "0 |",
    ),
    Mutant("output-not-aligned", LOADING, "reinterpret_cast<std::uintptr_t>(array.out) |", "0 |"),
    Mutant(
        "stride-not-aligned", LOADING, "static_cast<std::uintptr_t>(array.source.stride) |", "0 |"
    ),
    Mutant(
        "row-not-whole-packs",
        LOADING,
        "static_cast<std::uintptr_t>(array.source.row_bytes) |",
        "0 |",
    ),
    Mutant(
        "last-block-forgotten", LOADING, "packs - 1) / chunk + 1", "packs - 1) / chunk + (i > 0)"
    ),
    Mutant(
        "full-list-not-launched",
        LOADING,
        "SGF_CUDA_TRY(run(list, processors, static_cast<cudaStream_t>(stream)));",
        "",
    ),
    Mutant("sent-behind-the-end", LOADING, "if (i < count) list.out[i]", "list.out[i]"),
    Mutant(
        "sent-to-the-first-place", LOADING, "indices + i, out + i, size", "indices + i, out, size"
    ),
]
