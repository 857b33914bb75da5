"""Faults for the dense step, and for the conversions that it shares with the other kernels."""

from . import Mutant

TESTS = (
    "test_dense.py",
    "test_dense_launches.py",
    "test_dense_traffic.py",
    "test_streams.py",
)
STEP = "cuda/dense_step.cuh"
DENSE = "cuda/dense.cu"
LISTS = "cuda/lists.cuh"
MUTANTS = [
    Mutant("lost-barrier", STEP, "  __syncthreads();\n", ""),
    Mutant("alignment-not-checked", STEP, "s.packed = packed(", "s.packed = true || packed("),
    Mutant(
        "momentum-alignment-not-checked",
        STEP,
        "         aligned_to(t.momentum, lanes * size_of(types.momentum));",
        "         true;",
    ),
    Mutant(
        "pack-read-behind-the-end",
        STEP,
        "i + u * stride < end ? i + u * stride : i",
        "i + u * stride",
    ),
    Mutant(
        "pack-written-behind-the-end",
        STEP,
        "if (i + u * stride >= end) continue;",
        "if (i + u * stride > end) continue;",
    ),
    Mutant("rest-forgotten", STEP, "work.template step<1>(in_packs, n);", ""),
    Mutant(
        "chunk-overruns-its-tensor",
        STEP,
        "min(std::int64_t{list.chunk}, s.n - begin)",
        "list.chunk",
    ),
    Mutant("packs-stepped-twice", STEP, "i += packs * stride", "i += stride"),
    Mutant("chunk-of-another-block", STEP, "{block - list.first_block[i]}", "{block}"),
    Mutant(
        "search-off-by-one", LISTS, "first_block[middle] <= block", "first_block[middle] < block"
    ),
    Mutant("last-chunk-forgotten", STEP, "n + list.chunk - 1) /", "n + list.chunk - 2) /"),
    Mutant("group-of-another-tensor", STEP, "list.groups[s.group]", "list.groups[0]"),
    Mutant("pack-stored-twice", STEP, "if (i + u * stride >= end) continue;", ""),
    Mutant("rule-of-another-tensor", LISTS, "if (rule < first)", "if (rule <= first)"),
    Mutant("momentum-always-written", STEP, "if (writes_momentum) pack_at", "pack_at"),
    Mutant("momentum-not-read", STEP, "if (reads_momentum) {", "if (false) {"),
    Mutant(
        "rate-on-the-device-ignored", STEP, "if (group.lr != nullptr) params.lr = *group.lr;", ""
    ),
    Mutant("stream-lost", STEP, "arguments, 0, call_.stream", "arguments, 0, nullptr"),
    Mutant(
        "first-step-forgotten",
        DENSE,
        "set_rules(s, params, call.tensors[i].first)",
        "set_rules(s, params, false)",
    ),
    Mutant(
        "first-momentum-not-written",
        STEP,
        ".buffer != Buffer::none;",
        ".buffer == Buffer::accumulate;",
    ),
    Mutant(
        "rest-stepped-twice",
        STEP,
        "step<1>(in_packs, n)",
        "step<1>(in_packs > 8 ? in_packs - 1 : in_packs, n)",
    ),
    Mutant("last-list-not-launched", STEP, "    return run();", "    return cudaSuccess;"),
    Mutant("groups-of-the-last-list", STEP, "list_.count = groups_ = 0;", "list_.count = 0;"),
    Mutant("rounded-toward-zero", "core/convert.h", "cvt.rn.bf16.f32", "cvt.rz.bf16.f32"),
]
