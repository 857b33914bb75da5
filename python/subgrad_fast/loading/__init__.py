"""From rows to batches: arrays in memory, gathered in the order that a sampler gives."""

from subgrad_fast.loading.loader import BatchLoader

__all__ = ["BatchLoader"]
