"""What momentum buffers and averages hold where only a device knows: steps there may be skipped."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor
from torch.optim import Optimizer

if TYPE_CHECKING:
    _Base = Optimizer
else:
    _Base = object


class Counts(NamedTuple):
    """Of one parameter: how many steps its momentum and its average hold."""

    numbers: Tensor  # four int32 on the device: of either, before the last step and after it
    momentum: Tensor | None  # the tensors that they are true of
    average: Tensor | None


class Counting(_Base):
    """An optimizer whose first steps a device may skip, with the host none the wiser.

    Such a step makes momentum and averages all the same, of values that do no harm, and the device
    counts what they hold. Whoever is to see the state itself first calls `_settle`, which takes out
    of it what holds nothing: that waits for the device.
    """

    _plan: Any
    _counts: dict[Tensor, Counts]  # by parameter

    def _counted(
        self, param: Tensor, momentum: Tensor | None, average: Tensor | None, first: Iterable[bool]
    ) -> Tensor:
        """The numbers of a parameter whose momentum or average may have been skipped.

        Args:
            param: on a device.
            momentum, average: what its state holds or will hold.
            first: for either, whether it holds nothing yet.
        """
        old = self._counts.get(param)
        numbers = (
            torch.zeros(4, dtype=torch.int32, device=param.device) if old is None else old.numbers
        )
        before = (None, None) if old is None else (old.momentum, old.average)
        for i, (is_first, now, then) in enumerate(
            zip(first, (momentum, average), before, strict=True)
        ):
            if is_first:
                numbers[2 * i : 2 * i + 2].fill_(0)
            elif now is not None and now is not then:  # somebody else has filled it
                numbers[2 * i : 2 * i + 2].fill_(1)
        self._counts[param] = Counts(numbers, momentum, average)
        return numbers

    def _settle(self) -> None:
        """Takes what holds nothing out of the state; the host knows of the rest from now on."""
        if not self._counts:
            return
        for param, counts in self._counts.items():
            numbers = counts.numbers.tolist()
            held = (
                ("momentum_buffer", counts.momentum, numbers[1]),
                ("ema", counts.average, numbers[3]),
            )
            slots = self.state.get(param, {})
            for name, tensor, steps in held:
                if steps == 0 and tensor is not None and slots.get(name) is tensor:
                    del slots[name]
            if param in self.state and not slots:
                del self.state[param]
        self._counts = {}
        self._plan = None
