"""A DistributedDataParallel communication hook that exchanges only the gradients that matter."""

# No `from __future__ import annotations`: DistributedDataParallel looks at a hook's annotations and
# wants the classes themselves.
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch._C._distributed_c10d import GradBucket

from subgrad_fast._arguments import check_names
from subgrad_fast.distributed.state import SparseState

__all__ = ["SparseState", "mean_state", "sparse_hook"]


def sparse_hook(state: SparseState, bucket: GradBucket) -> torch.futures.Future[torch.Tensor]:
    """Averages gradients over the ranks of which each sends only its largest entries.

    A communication hook for ``DistributedDataParallel.register_comm_hook``::

        model = DistributedDataParallel(net)
        state = SparseState(net, density=0.01)
        model.register_comm_hook(state, sparse_hook)

    In each step a rank adds its gradient to what it held back (error feedback), sends the entries
    that the state's settings select as (index, value) to all others, and keeps the rest. All ranks
    then add up what has arrived in the order of the ranks, each value multiplied by 1 / world size
    first, so that they get the same bits. Nothing is lost: what a rank has not sent is in its
    residual. A gradient that nobody sent anything of is -0.0.

    If a gradient of any rank is not finite, the step counts on no rank: residuals stay as they
    were, ``state.skipped`` is True, and the averages are NaN everywhere, so that a ``GradScaler``
    skips the step once, as it does without a hook.

    With ``threshold=0`` everything is sent. With one or two ranks that gives the bits of
    DistributedDataParallel without a hook; with more, gloo adds in an order that depends on where
    in a bucket an element lies, here it is always that of the ranks. bfloat16 and float16 are added
    up in float32.

    A tensor whose gradient is all zero keeps what it holds for later: DistributedDataParallel
    ignores what is sent for a parameter that no rank used.

    Gradients are dense CPU tensors of dtype float32, float64, bfloat16 or float16.

    Args:
        state: what to send, and the residuals.
        bucket: comes from DistributedDataParallel.

    Returns:
        A future of the bucket's averaged gradients.

    Raises:
        TypeError: gradients of another dtype or layout.
        ValueError: gradients on another device, a state of another model, or settings out of range.
    """
    return state._reduce(bucket)


def mean_state(state_dicts: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """One state for every rank of any world size, made of those that all ranks have saved.

    Every rank then holds the mean of what the old ranks held: the mean that is still to come stays
    what it was, up to rounding. For when the world size changes; to go on with the same bits on the
    same ranks, load each rank's own state.

    Args:
        state_dicts: of all ranks of a run, in any order, after the same step.

    Raises:
        ValueError: these are not the states of all ranks after the same step.
    """
    state_dicts = list(state_dicts)
    for i, state in enumerate(state_dicts):
        check_names(state, ("rank", "world_size", "step", "residuals"), f"state_dicts[{i}]")
    states = sorted(state_dicts, key=lambda state: int(state["rank"]))
    ranks = [state["rank"] for state in states]
    if not states or ranks != list(range(states[0]["world_size"])):
        raise ValueError(f"state_dicts: expected one of each rank of a run, got ranks {ranks}")
    if len({state["step"] for state in states}) != 1:
        raise ValueError("state_dicts: expected states after the same step")
    residuals: dict[str, Tensor] = {}
    for state in states:
        for name, residual in state["residuals"].items():
            share = residual / len(states)
            residuals[name] = residuals[name] + share if name in residuals else share
    return {**states[0], "rank": None, "residuals": residuals}
