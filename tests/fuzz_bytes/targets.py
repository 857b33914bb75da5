"""All targets by name: functions of bytes, which raise AssertionError where something is wrong."""

from __future__ import annotations

from collections.abc import Callable

from tests.fuzz_bytes import payloads, producers, states, steps

Target = Callable[[bytes], None]

TARGETS: dict[str, Target] = {
    target.__name__: target
    for target in (
        steps.sgd_step,
        steps.threshold_step,
        steps.select,
        steps.row_step,
        steps.sparsify,
        steps.gather,
        producers.producers,
        payloads.merge,
        states.samplers,
        states.loaders,
        states.pickled_weights,
        states.pickled_strata,
    )
}
