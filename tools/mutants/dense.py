"""Faults for the dense step, and for the conversions that it shares with the other kernels."""

from . import Mutant

TESTS = (
    "test_dense.py",
    "test_dense_launches.py",
    "test_dense_traffic.py",
    "test_streams.py",
)
DENSE = "cuda/dense.cu"
LISTS = "cuda/lists.cuh"
MUTANTS = [
    Mutant("lost-barrier", DENSE, "  __syncthreads();\n", ""),
    Mutant("alignment-not-checked", DENSE, "s.packed = packed(", "s.packed = true || packed("),
    Mutant(
        "momentum-alignment-not-checked",
        DENSE,
        "         aligned_to(t.momentum, lanes * size_of(types.momentum));",
        "         true;",
    ),
    Mutant(
        "pack-read-behind-the-end",
        DENSE,
        "i + u * stride < end ? i + u * stride : i",
        "i + u * stride",
    ),
    Mutant(
        "pack-written-behind-the-end",
        DENSE,
        "if (i + u * stride >= end) continue;",
        "if (i + u * stride > end) continue;",
    ),
    Mutant("rest-forgotten", DENSE, "work.template step<1>(in_packs, n);", ""),
    Mutant(
        "chunk-overruns-its-tensor",
        DENSE,
        "min(std::int64_t{list.chunk}, s.n - begin)",
        "list.chunk",
    ),
    Mutant("packs-stepped-twice", DENSE, "i += packs * stride", "i += stride"),
    Mutant("chunk-of-another-block", DENSE, "{block - list.first_block[i]}", "{block}"),
    Mutant(
        "search-off-by-one", LISTS, "first_block[middle] <= block", "first_block[middle] < block"
    ),
    Mutant("last-chunk-forgotten", DENSE, "n + list.chunk - 1) /", "n + list.chunk - 2) /"),
    Mutant("group-of-another-tensor", DENSE, "list.groups[s.group]", "list.groups[0]"),
    Mutant("pack-stored-twice", DENSE, "if (i + u * stride >= end) continue;", ""),
    Mutant("rule-of-another-tensor", LISTS, "if (rule < first)", "if (rule <= first)"),
    Mutant("momentum-always-written", DENSE, "if (segment.writes_momentum) pack_at", "pack_at"),
    Mutant("momentum-not-read", DENSE, "if (segment.reads_momentum) {", "if (false) {"),
    Mutant("found-inf-ignored", DENSE, "*options.found_inf != 0.0f", "*options.found_inf > 1.0f"),
    Mutant("scale-not-inverted", DENSE, "C(1) / C(*options.grad_scale)", "C(*options.grad_scale)"),
    Mutant("scale-in-float", DENSE, "C(1) / C(*options.grad_scale)", "1.0f / *options.grad_scale"),
    Mutant(
        "rate-on-the-device-ignored", DENSE, "if (group.lr != nullptr) params.lr = *group.lr;", ""
    ),
    Mutant("stream-lost", DENSE, "arguments, 0, stream_", "arguments, 0, nullptr"),
    Mutant(
        "first-step-forgotten",
        DENSE,
        "sgd_rule(group.params, t.first)",
        "sgd_rule(group.params, false)",
    ),
    Mutant(
        "first-momentum-not-written",
        DENSE,
        ".buffer != Buffer::none;",
        ".buffer == Buffer::accumulate;",
    ),
    Mutant(
        "rest-stepped-twice",
        DENSE,
        "step<1>(in_packs, n)",
        "step<1>(in_packs > 8 ? in_packs - 1 : in_packs, n)",
    ),
    Mutant("gradient-not-unscaled", DENSE, "mul(unscale, gv[k])", "gv[k]"),
    Mutant("last-list-not-launched", DENSE, "return launches.run();", "return cudaSuccess;"),
    Mutant("groups-of-the-last-list", DENSE, "list_.count = groups_ = 0;", "list_.count = 0;"),
    Mutant("rounded-toward-zero", "core/convert.h", "cvt.rn.bf16.f32", "cvt.rz.bf16.f32"),
]
