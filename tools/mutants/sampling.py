"""Faults for orders and draws, and for the formulas that they share with the CPU."""

from . import Mutant

TESTS = ("test_sampling.py",)
SAMPLING = "cuda/sampling.cu"
MUTANTS = [
    Mutant("walk-ends-too-early", SAMPLING, "if (x < p.n) {", "if (x <= p.n) {"),
    Mutant("negative-not-from-the-end", SAMPLING, "(value < 0 ? n : 0)", "0"),
    Mutant("outside-not-marked", SAMPLING, "out[i] = inside ? static", "out[i] = true ? static"),
    Mutant(
        "exchange-forgotten", SAMPLING, "exchange_first(p, turned(order, x))", "turned(order, x)"
    ),
    Mutant(
        "order-not-turned", SAMPLING, "exchange_first(p, turned(order, x))", "exchange_first(p, x)"
    ),
    Mutant(
        "position-not-turned",
        SAMPLING,
        "turned(order, exchange_first(p, x))",
        "exchange_first(p, x)",
    ),
    Mutant(
        "table-of-the-other-way",
        SAMPLING,
        "p.forward[x] : p.backward[x]",
        "p.forward[x] : p.forward[x]",
    ),
    Mutant("window-shared-by-all", SAMPLING, "inside_windows[threadIdx.x]", "inside_windows[0]"),
    Mutant("odd-start-ignored", SAMPLING, "2 * pair - odd;", "2 * pair;"),
    Mutant("pair-before-the-first", SAMPLING, "packed && i >= 0 &&", "packed &&"),
    Mutant(
        "pair-behind-the-last", SAMPLING, "packed && i >= 0 && i + 1 < count", "packed && i >= 0"
    ),
    Mutant("last-draw-forgotten", SAMPLING, "2 * pair < count + odd", "2 * pair + 1 < count + odd"),
    Mutant("pairs-not-aligned", SAMPLING, "aligned_to(out, 16) : !", "true : !"),
    Mutant("redraw-of-the-first", SAMPLING, "key, number + k);", "key, number);"),
    Mutant("attempt-left-out", "samplers/draw.h", "attempt = 1;", "attempt = 2;"),
    Mutant(
        "step-ignored",
        SAMPLING,
        "static_cast<std::uint64_t>(i) * step",
        "static_cast<std::uint64_t>(i)",
    ),
    Mutant(
        "counter-of-64-bits",
        "core/philox.h",
        "low >> 32, high & 0xffffffffu",
        "0, high & 0xffffffffu",
    ),
]
