"""The step that moves every element: a function for one step, and a class that holds a plan."""

from subgrad_fast.dense.fused import FusedSGD
from subgrad_fast.dense.step import NormScope, clip_options, sgd_step

__all__ = ["FusedSGD", "NormScope", "clip_options", "sgd_step"]
