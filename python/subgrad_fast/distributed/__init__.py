"""Training on several processes: what ``torch.distributed`` is given to exchange less."""

from subgrad_fast.distributed.hook import mean_state, sparse_hook
from subgrad_fast.distributed.state import SparseState

__all__ = ["SparseState", "mean_state", "sparse_hook"]
