"""Which rows come in which batch: what torch's own samplers draw, and those of any other."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch.utils.data import BatchSampler, RandomSampler, SequentialSampler

from subgrad_fast.data.rows import Rows
from subgrad_fast.data.samplers import BatchSampler as OurBatchSampler
from subgrad_fast.sampling import Sampler


def of_this_library(batch_sampler: Any) -> Sampler | None:
    """The sampler of this library whose batches a ``batch_sampler`` gives, if it is of one."""
    if isinstance(batch_sampler, OurBatchSampler):
        return batch_sampler.source
    ours = isinstance(batch_sampler, Sampler) and batch_sampler.batch_size is not None
    return batch_sampler if ours else None


def is_torchs(batch_sampler: Any) -> bool:
    """Whether it is torch's, of torch's sampler of all rows, shuffled or in order."""
    if type(batch_sampler) is not BatchSampler:
        return False
    sampler = batch_sampler.sampler
    if type(sampler) is RandomSampler:
        return not sampler.replacement and sampler.num_samples == len(sampler.data_source)
    return type(sampler) is SequentialSampler


def of_torch(batch_sampler: Any, rows: Rows | None) -> Iterator[Rows]:
    """The batches of such a one as arrays, looked up in `rows`.

    Takes from torch's generators what torch's samplers would, when they would.
    """
    sampler, size = batch_sampler.sampler, batch_sampler.batch_size
    n, generator = len(sampler.data_source), getattr(sampler, "generator", None)
    if type(sampler) is SequentialSampler:
        order = np.arange(n)
    elif generator is None:
        drawn = torch.Generator()
        drawn.manual_seed(int(torch.empty((), dtype=torch.int64).random_().item()))
        order = torch.randperm(n, generator=drawn).numpy()
    else:
        order = torch.randperm(n, generator=generator).numpy()
    if rows is not None:
        order = rows[order]
    whole = n - n % size
    for at in range(0, whole, size):
        yield order[at : at + size]
    if generator is not None:
        torch.randperm(n, generator=generator)  # torch draws a second order, and uses none of it
    if whole < n and not batch_sampler.drop_last:
        yield order[whole:]
