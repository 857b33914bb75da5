"""Faults for norms and for gradients that are clipped in place."""

from . import Mutant

TESTS = ("test_clip.py", "test_streams.py")
NORM = "cuda/norm.cu"
CLIP = "cuda/clip.cu"
LIST = "cuda/clip_list.cuh"
RULE = "rules/norm.h"
MUTANTS = [
    Mutant(
        "lanes-folded-by-neighbours",
        NORM,
        "int half = kSquareSums / 2; half > 0; half /= 2",
        "int half = 1; half < kSquareSums; half *= 2",
    ),
    Mutant("turn-overruns-its-block", NORM, "i + (kTurns - 1) * kSquareSums < n", "i < n"),
    Mutant(
        "rest-of-a-block-forgotten",
        NORM,
        "for (; i < n; i += kSquareSums) look.take(widen<double>(x[i]));",
        "",
    ),
    Mutant(
        "sum-of-another-block", NORM, "blocks[g.first + block] = found", "blocks[g.first] = found"
    ),
    Mutant("block-overruns-its-gradient", NORM, "min(kNormBlock, g.n - begin)", "kNormBlock"),
    Mutant("sums-read-behind-the-end", NORM, "min(std::int64_t{32}, end - begin)", "32"),
    Mutant("blocks-of-another-gradient", LIST, "first += norm_blocks(g.n);", ""),
    Mutant(
        "not-added-anew",
        NORM,
        "atomicExch(list.scratch.again, 1)",
        "atomicExch(list.scratch.again, 0)",
    ),
    Mutant("added-anew-unscaled", NORM, "x = ldexp(x, -exponent);", ""),
    Mutant("exponent-not-kept", NORM, "sum.exponent = exponent_of(all);", "sum.exponent = 0;"),
    Mutant(
        "exponents-not-brought-together",
        RULE,
        "ldexp(other.value, 2 * (other.exponent - common))",
        "other.value",
    ),
    Mutant(
        "first-gradient-forgotten",
        NORM,
        "{sum_of_gradient(groups, 0), sum_of_gradient(groups, count), 0}",
        "{sum_of_gradient(groups, 1), sum_of_gradient(groups, count), 0}",
    ),
    Mutant("nan-of-the-largest-lost", RULE, "a != a || a > b ? a : b", "a > b ? a : b"),
    Mutant(
        "smallest-of-the-lanes",
        NORM,
        "largest = max(largest, __shfl",
        "largest = min(largest, __shfl",
    ),
    Mutant(
        "last-list-of-gradients-lost", LIST, "return list.count > 0 ?", "return list.count > 999 ?"
    ),
    Mutant("change-without-barrier", CLIP, "  __syncthreads();\n", ""),
    Mutant("change-alignment-not-checked", CLIP, "% 16 == 0", "% 1 == 0"),
    Mutant(
        "change-of-the-rest-forgotten",
        CLIP,
        "int at = in_packs + static_cast<int>(threadIdx.x)",
        "int at = n",
    ),
    Mutant("change-of-another-tile", CLIP, "{block - list.first_block[i]}", "{block}"),
    Mutant("written-within-the-bound", CLIP, "if (stage.changes_nothing()) return;", ""),
    Mutant(
        "change-always-narrow", CLIP, "change.max_norm, change.wide)", "change.max_norm, false)"
    ),
    Mutant("change-limit-ignored", CLIP, "shared.limit = change.limit;", "shared.limit = kAbsent;"),
]
