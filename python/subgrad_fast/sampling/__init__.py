"""Which rows come next: permutations, batches, weights and classes. Needs NumPy only.

Nothing here holds the state of a generator. A row is a function of (seed, epoch, position), so an
order is the same on every processor and number of threads, a saved run continues exactly, and any
number of ranks sees the same batches.
"""

from subgrad_fast.sampling.batches import BatchSampler
from subgrad_fast.sampling.classes import ClassBalancedSampler, GroupSampler, StratifiedSampler
from subgrad_fast.sampling.permutation import Permutation, choose
from subgrad_fast.sampling.sampler import Sampler
from subgrad_fast.sampling.weighted import WeightedSampler

__all__ = [
    "BatchSampler",
    "ClassBalancedSampler",
    "GroupSampler",
    "Permutation",
    "Sampler",
    "StratifiedSampler",
    "WeightedSampler",
    "choose",
]
