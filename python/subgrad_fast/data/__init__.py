"""The faces of ``torch.utils.data``: its DataLoader, which gathers, and samplers for loaders."""

from subgrad_fast.data.loader import DataLoader
from subgrad_fast.data.samplers import BatchSampler, RowSampler

__all__ = ["BatchSampler", "DataLoader", "RowSampler"]
