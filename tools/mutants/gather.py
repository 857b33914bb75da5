"""Faults for the gathering of batches."""

from . import Mutant

TESTS = ("test_gather_cuda.py",)
GATHER = "cuda/loading.cu"
MUTANTS = [
    Mutant(
        "pack-behind-the-end", GATHER, "if (at < part.packs) rein", "if (at <= part.packs) rein"
    ),
    Mutant("index-behind-the-end", GATHER, "part.packs - 1);", "part.packs);"),
    Mutant("row-of-the-first-pack", GATHER, "indices[row[u]]", "indices[row[0]]"),
    Mutant("gap-ignored", GATHER, "index[u] * part.stride", "index[u] * part.per_row * part.width"),
    Mutant("array-of-another-block", GATHER, "first_block <= block)", "first_block < block)"),
    Mutant("block-of-another-array", GATHER, "(block - part.first_block) *", "block *"),
    Mutant("source-not-aligned", GATHER, "reinterpret_cast<std::uintptr_t>(array.source) |", "0 |"),
    Mutant("output-not-aligned", GATHER, "reinterpret_cast<std::uintptr_t>(array.out) |", "0 |"),
    Mutant("stride-not-aligned", GATHER, "static_cast<std::uintptr_t>(array.stride) |", "0 |"),
    Mutant("row-not-whole-packs", GATHER, "static_cast<std::uintptr_t>(array.row_bytes) |", "0 |"),
    Mutant(
        "last-block-forgotten", GATHER, "packs - 1) / chunk + 1", "packs - 1) / chunk + (i > 0)"
    ),
    Mutant(
        "full-list-not-launched",
        GATHER,
        "SGF_CUDA_TRY(run(list, processors, static_cast<cudaStream_t>(stream)));",
        "",
    ),
    Mutant("sent-behind-the-end", GATHER, "if (i < count) list.out[i]", "list.out[i]"),
    Mutant(
        "sent-to-the-first-place", GATHER, "indices + i, out + i, size", "indices + i, out, size"
    ),
]
