"""Faults for the kernels of selection and of the thresholded step."""

from . import Mutant

TESTS = ("test_select.py", "test_threshold.py")
BLOCKS, KEY, SPANS, SELECT, TILES = (
    f"cuda/{name}" for name in ("blocks.cuh", "kth_key.cu", "spans.cuh", "select.cu", "select.cuh")
)
LIST, TILE, STEP = (f"cuda/threshold{name}" for name in ("_list.cuh", "_tile.cuh", ".cu"))

FAULTS = [  # name, file, right, wrong
    # --- blocks.cuh
    ("scan-lost-barrier", BLOCKS, "  __syncthreads();\n  T before = 0, all = 0;", "  T before = 0, all = 0;"),
    ("scan-lost-last-barrier", BLOCKS, "  __syncthreads();  // the next scan writes there\n", ""),
    ("scan-wrong-lane", BLOCKS, "lane_number() >= distance", "lane_number() > distance"),
    ("scan-wrong-mask", BLOCKS, "__shfl_up_sync(kAllLanes,", "__shfl_up_sync(0xffffu,"),
    ("scan-inclusive", BLOCKS, "return before + through - x;", "return before + through;"),
    ("sum-lost-barrier", BLOCKS, "  __syncthreads();\n  T all = 0;", "  T all = 0;"),
    ("sum-lost-last-barrier", BLOCKS, "  __syncthreads();  // the next sum writes there\n", ""),
    ("sum-half-a-warp", BLOCKS, "int distance = 16; distance > 0", "int distance = 8; distance > 0"),
    ("tail-overrun", BLOCKS, "if (i < end) pack = pack_at", "if (i <= end) pack = pack_at"),
    ("tail-counted", BLOCKS, "body(pack, i, i < end ? lanes : 0)", "body(pack, i, lanes)"),
    ("alignment-not-checked", BLOCKS, "(x) % 16 == 0;", "(x) % 16 >= 0;"),
    ("rest-forgotten", BLOCKS, "  each_turn<1>(x, in_packs, n, body);\n", ""),
    # --- select.cu, select.cuh
    ("bins-not-cleared", KEY, "bins[b] = 0;\n  __syncthreads();\n\n  const Part", "bins[b] = 0;\n\n  const Part"),
    ("bins-read-early", KEY, "  __syncthreads();\n  unsigned long long* const all", "  unsigned long long* const all"),
    ("bins-added-without-atomics", KEY, "atomicAdd(&bins[bin], 1u);", "bins[bin] += 1u;"),
    (
        "bins-of-blocks-without-atomics",
        KEY,
        "atomicAdd(&all[b], static_cast<unsigned long long>(bins[b]));",
        "all[b] += bins[b];",
    ),
    ("bins-left-full", KEY, "    bins[top - b] = 0;\n", ""),
    ("likely-bin-counted-twice", KEY, "} else if (in && bin != likely) {", "} else if (in) {"),
    ("upper-digits-ignored", KEY, "in = k < count && digit < kBins;", "in = k < count;"),
    ("digit-off-by-one", KEY, "before + sum < wanted) return;", "before + sum <= wanted) return;"),
    ("left-not-reduced", KEY, "scope.left = wanted - before;", "scope.left = wanted;"),
    ("last-digit-forgotten", KEY, "shift >= 0; shift -= kBinBits", "shift > 0; shift -= kBinBits"),
    ("nan-by-its-bits", TILES, "const key_t<C> key = magnitude_key(x[k]);\n      if", "const key_t<C> key = magnitude_bits(x[k]);\n      if"),
    ("ties-to-any", TILES, "(is_equal && equal < ties_)", "is_equal"),
    ("ties-one-short", TILES, "(is_equal && equal < ties_)", "(is_equal && equal + 1 < ties_)"),
    ("place-without-ties", TILES, "above + min(equal, ties_);", "above;"),
    ("turn-forgotten", TILES, "    above_ += static_cast<int>(total & 0xffff);\n", ""),
    ("tie-order-of-tiles", SELECT, "scope.left - equal_before;", "scope.left - equal;"),
    ("through-without-own", SELECT, "(before & 0xffffffffu) + own.above;", "(before & 0xffffffffu);"),
    ("scan-forgets-turns", SELECT, "    equal += static_cast<std::int64_t>(total >> 32);\n", ""),
    ("offset-of-the-scope", SELECT, "before - kept_before(list.scratch, span.scope, span.first_tile);", "before;"),
    ("first-tile-of-another", TILES, "tile == scratch.scopes[scope].first_tile ?", "tile == 0 ?"),
    ("index-within-the-tile", SELECT, "part.begin + i + k);", "i + k);"),
    ("chunk-overruns", SPANS, "min(std::int64_t{list.chunk} * kTile, span.n - begin)", "std::int64_t{list.chunk} * kTile"),
    ("list-not-launched", SPANS, "return list.count > 0 ? run(list, static_cast<int>(blocks)) : cudaSuccess;", "return cudaSuccess;"),
    # --- threshold.cu
    ("coefficients-read-early", TILE, "list.scratch.scopes[s.scope].key);\n  }\n  __syncthreads();", "list.scratch.scopes[s.scope].key);\n  }"),
    ("tile-overruns-its-tensor", TILE, "min(std::int64_t{kTile}, s.n - begin)", "kTile"),
    ("step-misaligned", LIST, "s.packed = is_packed(", "s.packed = true || is_packed("),
    ("residual-alignment-not-checked", LIST, " &&\n         aligned_to(residual, 16);", ";"),
    ("step-tail-forgotten", STEP, "  work.template step<1>(in_packs, at.n);\n\n  if (!s.fused", "  if (!s.fused"),
    ("release-tail-forgotten", STEP, "  work.template step<1>(in_packs, at.n);\n  if (list.energies", "  if (list.energies"),
    ("count-without-atomics", STEP, "atomicAdd(reinterpret_cast<unsigned long long*>(&list.kept[s.number]),\n                static_cast<unsigned long long>(kept));", "list.kept[s.number] += kept;"),
    ("fresh-residual-read", STEP, "if (s.residual != nullptr && !s.fresh) vp", "if (s.residual != nullptr) vp"),
    ("first-step-accumulates", LIST, "sgd_rule(parts.direction, t.first)", "sgd_rule(parts.direction, false)"),
    ("momentum-not-masked", TILE, "if (s.masks_momentum) m[k] = forgotten;", ""),
    ("parameters-rounded-again", TILE, "if (all || kept[k]) w.lane[k]", "w.lane[k]"),
    ("nothing-is-zero", STEP, "vp.lane[k] = nothing<C>();", "vp.lane[k] = C(0);"),
    ("shrinks-only-kept", STEP, "if (any || s.application != kPlain) {", "if (any) {"),
    ("release-shrinks-only-kept", STEP, "if (!any && !all) return;", "if (!any) return;"),
    ("capacity-ignored", STEP, "kept[k] = kept[k] && to + place[k] < s.kept.capacity;", ""),
    ("ties-not-ranked", STEP, "list.index_bytes != 0 || kept != counts.above + counts.equal", "list.index_bytes != 0"),
    ("threads-leave-before-the-scan", STEP, "      if (ranked) {\n", "      if (count == 0) return;\n      if (ranked) {\n"),
    ("release-offset-of-the-scope", STEP, "before - kept_before(scratch, s.scope, s.first_tile);", "before;"),
    ("rate-on-the-device-ignored", TILE, "if (group.lr != nullptr) application.lr = *group.lr;", ""),
    ("maximize-twice", LIST, "{parts.direction, parts.application, group.lr}", "{parts.direction, parts.direction, group.lr}"),
    ("group-of-another-tensor", TILE, "list.groups[s.group]", "list.groups[0]"),
    ("energies-swapped", TILE, "if (in[k]) {  // a", "if (!in[k]) {  // a"),
    ("energies-of-some-tiles", STEP, "t += kBlockThreads) {", "t += 2 * kBlockThreads) {"),
    ("pack-not-stored", STEP, "      pack_at<lanes>(at.v + i) = vp;\n    });", "    });"),
]  # fmt: skip
MUTANTS = [Mutant(f"threshold-{name}", *change) for name, *change in FAULTS]
