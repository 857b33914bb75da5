"""The thresholded step: only what is large enough is applied, nothing is lost."""

from subgrad_fast.threshold.result import ThresholdResult
from subgrad_fast.threshold.step import threshold_step

__all__ = ["ThresholdResult", "threshold_step"]
