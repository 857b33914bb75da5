"""Fused SGD steps for NumPy arrays and PyTorch tensors.

The step costs the bytes it must move and nothing else, and gives the same bits on every instruction
set, every thread count and every resume.

``subgrad_fast.optim`` has the ``torch.optim`` optimizers, ``subgrad_fast.data`` torch's DataLoader,
``subgrad_fast.distributed`` a communication hook, ``subgrad_fast.bench`` times a model of your own;
each is imported when it is first asked for, so that this package works without PyTorch.
"""

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING

from subgrad_fast._openmp import load_core

try:
    load_core()
    from subgrad_fast._core import __version__
    from subgrad_fast.chosen import (
        apply_delta_,
        flatten_delta,
        revert_delta_,
        support_step,
        unflatten_delta,
    )
    from subgrad_fast.clip import clip_grad_norm_, clip_grad_value_, total_norm
    from subgrad_fast.dense import FusedSGD, sgd_step
    from subgrad_fast.loading.loader import BatchLoader
    from subgrad_fast.memory import use_huge_pages
    from subgrad_fast.rows import RowHistory, row_step
    from subgrad_fast.runtime import (
        available_isas,
        build_info,
        get_num_threads,
        set_num_threads,
    )
    from subgrad_fast.sampling import (
        BatchSampler,
        ClassBalancedSampler,
        GroupSampler,
        Permutation,
        StratifiedSampler,
        WeightedSampler,
        choose,
    )
    from subgrad_fast.select.magnitudes import Selection, kth_magnitude, select
    from subgrad_fast.select.selectors import Absolute, Exact, Reused, Sampled
    from subgrad_fast.sparsify import (
        Mask,
        apply_mask_,
        elastic_net_,
        group_soft_threshold_,
        hard_threshold_,
        n_m_,
        soft_threshold_,
    )
    from subgrad_fast.threshold.result import ThresholdResult
    from subgrad_fast.threshold.step import threshold_step
except ImportError:
    # `subgrad-fast info` and `python -m subgrad_fast info` import this package first, and are there
    # to report this very error.
    if not "".join(sys.argv[:1]).endswith(("-m", "subgrad-fast", "subgrad-fast.exe")):
        raise

__all__ = [
    "Absolute",
    "BatchLoader",
    "BatchSampler",
    "ClassBalancedSampler",
    "Exact",
    "FusedSGD",
    "GroupSampler",
    "Mask",
    "Permutation",
    "Reused",
    "RowHistory",
    "Sampled",
    "Selection",
    "StratifiedSampler",
    "ThresholdResult",
    "WeightedSampler",
    "__version__",
    "apply_delta_",
    "apply_mask_",
    "available_isas",
    "build_info",
    "choose",
    "clip_grad_norm_",
    "clip_grad_value_",
    "elastic_net_",
    "flatten_delta",
    "get_num_threads",
    "group_soft_threshold_",
    "hard_threshold_",
    "kth_magnitude",
    "n_m_",
    "revert_delta_",
    "row_step",
    "select",
    "set_num_threads",
    "sgd_step",
    "soft_threshold_",
    "support_step",
    "threshold_step",
    "total_norm",
    "unflatten_delta",
    "use_huge_pages",
]

_LAZY = ("bench", "data", "distributed", "optim")

if TYPE_CHECKING:
    from subgrad_fast import bench as bench
    from subgrad_fast import data as data
    from subgrad_fast import distributed as distributed
    from subgrad_fast import optim as optim


def __getattr__(name: str) -> ModuleType:
    """Imports at the first use what needs torch, or few programs need."""
    if name in _LAZY:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY})
