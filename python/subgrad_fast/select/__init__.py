"""The largest elements by magnitude, and the ways to say how many are meant."""

from subgrad_fast.select.magnitudes import Selection, kth_magnitude, select
from subgrad_fast.select.selectors import Absolute, Exact, Reused, Sampled

__all__ = ["Absolute", "Exact", "Reused", "Sampled", "Selection", "kth_magnitude", "select"]
