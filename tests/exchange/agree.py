"""That ranks agree with each other, with other runs, and with the oracle in NumPy."""

from __future__ import annotations

from typing import Any

from tests.bits import assert_same_bits
from tests.oracles.exchange import exchange, in_memory

Step = dict[str, Any]


def assert_same_arrays(got: Step, want: Step, what: str) -> None:
    assert got.keys() == want.keys()
    for name, value in want.items():
        if value is None:
            assert got[name] is None, f"{what} {name}"
        else:
            assert_same_bits(got[name], value, f"{what} {name}")


def assert_ranks_agree(results: list[Step]) -> None:
    for rank, result in enumerate(results):
        assert_same_arrays(result["parameters"], results[0]["parameters"], f"rank {rank}")
        for mine, first in zip(result["averaged"], results[0]["averaged"], strict=True):
            assert_same_arrays(mine, first, f"rank {rank}")


def assert_same_training(got: list[Step], want: list[Step]) -> None:
    assert_ranks_agree(got)
    for mine, theirs in zip(got[0]["averaged"], want[0]["averaged"], strict=True):
        assert_same_arrays(mine, theirs, "gradient")
    assert_same_arrays(got[0]["parameters"], want[0]["parameters"], "parameter")


def assert_as_in_numpy(results: list[Step], settings: Step) -> None:
    held: list[Step] = [{} for _ in results]
    for step, averaged in enumerate(results[0]["averaged"]):
        gradients = [result["seen"][step]["gradients"] for result in results]
        want = exchange(gradients, held, results[0]["seen"][step]["buckets"], settings)
        if settings.get("error_feedback", True) is False:
            held = [{} for _ in results]
        for name, average in want.items():
            if averaged[name] is not None:  # None: no rank has used it
                assert_same_bits(
                    in_memory(name, averaged[name]), average, f"step {step}, average of {name}"
                )
    for rank, result in enumerate(results):
        flat = {name: in_memory(name, r) for name, r in result["residuals"].items()}
        assert_same_arrays(flat, held[rank], f"rank {rank}, residual of")
