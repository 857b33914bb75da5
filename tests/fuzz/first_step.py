"""torch's first step, in which it imports its compiler."""

from __future__ import annotations

import torch

from subgrad_fast.optim import SGD


def take() -> None:
    """Takes that step now. It lasts seconds: neither a life's time nor every child is to pay."""
    SGD([torch.nn.Parameter(torch.zeros(1))]).step()
