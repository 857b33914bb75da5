"""What the SGD steps that are compared are called in the tables, and how all of them are set.

The names are in full, since who reads a table has not read this file.
"""

from __future__ import annotations

from typing import Any

MOMENTUM = 0.9
WEIGHT_DECAY = 1e-4
LEARNING_RATE = 1e-6
"""So small that a 500-layer network stays finite for ever. A step costs the same at any rate."""
HYPERPARAMETERS: dict[str, Any] = {
    "lr": LEARNING_RATE,
    "momentum": MOMENTUM,
    "weight_decay": WEIGHT_DECAY,
}

DEFAULT = "`torch.optim.SGD`"
FOREACH = "`torch.optim.SGD(foreach=True)`"
FUSED = "`torch.optim.SGD(fused=True)`"
OURS_F32 = "ours, all float32"
