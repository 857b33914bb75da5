"""The thresholded step: only what is large enough is applied, nothing is lost."""

from subgrad_fast.threshold.result import SparseResult
from subgrad_fast.threshold.step import sparse_step

__all__ = ["SparseResult", "sparse_step"]
