"""A fixed choice of elements: the step that moves them alone, and what they have become."""

from subgrad_fast.chosen.delta import (
    Delta,
    apply_delta_,
    flatten_delta,
    revert_delta_,
    unflatten_delta,
)
from subgrad_fast.chosen.step import support_step

__all__ = [
    "Delta",
    "apply_delta_",
    "flatten_delta",
    "revert_delta_",
    "support_step",
    "unflatten_delta",
]
