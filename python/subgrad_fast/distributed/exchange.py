"""Buckets of `DistributedDataParallel`, and how (index, value) pairs of them get to all ranks."""

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from subgrad_fast import _core

# The gradients that are exchanged, and the type that they are accumulated in.
RESIDUAL_DTYPES = {
    torch.float32: torch.float32,
    torch.float64: torch.float64,
    torch.bfloat16: torch.float32,
    torch.float16: torch.float32,
}

# What a rank says that has no count to tell.
_NOT_FINITE = -1


def bucket_strides(parameter: Tensor) -> tuple[int, ...]:
    """How DistributedDataParallel lays out a gradient; GradBucket.gradients() does not know."""
    if torch.ops.aten.is_non_overlapping_and_dense(parameter):
        return parameter.stride()
    return torch.empty(parameter.shape, device="meta").stride()


def flat_view(tensor: Tensor) -> Tensor:
    """The memory of a dense tensor, whatever the order of its dimensions."""
    return tensor.as_strided((tensor.numel(),), (1,))


class Exchange:
    """What this rank sends of one bucket, on its way.

    How much each rank sends is gathered first, and the entries afterwards, in messages of one
    length. Between the two this rank computes the gradients of the next bucket. A rank whose
    gradients are not finite says so in place of a count. The bucket is handed over when all ranks
    know of all buckets whether the step counts.

    Args:
        parts: what to send of each tensor of the bucket; None if the gradients are not finite.
        wide: whether indices have 64 bits.
        wire: the type that values are sent in; None is the bucket's.
    """

    def __init__(
        self,
        bucket: Tensor,
        parts: list[Any] | None,
        wide: bool,
        wire: torch.dtype | None,
        group: Any,
    ) -> None:
        self.bucket = bucket
        self.parts = parts or []
        self.wide = wide
        self.wire = wire
        self.group = group
        self.world_size = dist.get_world_size(group)
        self.count = sum(len(indices) for indices, *_ in self.parts)
        self.future: torch.futures.Future[Tensor] = torch.futures.Future()
        self.counts = torch.empty(self.world_size, dtype=torch.int64)
        self._merged: torch.futures.Future[None] = torch.futures.Future()
        own = torch.tensor([_NOT_FINITE if parts is None else self.count])
        self._counting = dist.all_gather(
            list(self.counts.view(-1, 1)), own, group=group, async_op=True
        )

    def finite(self) -> bool:
        """Waits for the counts: whether the gradients of all ranks are finite."""
        self._counting.wait()
        return int(self.counts.min()) != _NOT_FINITE

    def send(self) -> int:
        """Starts the exchange of the entries, and returns the bytes that this rank sends."""
        entry_bytes = (self.wire or self.bucket.dtype).itemsize + (8 if self.wide else 4)
        capacity = -(-int(self.counts.max()) // _core.exchange.GRANULE) * _core.exchange.GRANULE
        payload = torch.zeros(capacity * entry_bytes, dtype=torch.uint8)
        _core.exchange.pack(payload.numpy(), self.bucket, self.wide, self.parts, self._wire_name())
        self.parts = []
        gathered = payload.new_empty(self.world_size, payload.numel())
        # Rows that nobody has anything to say in cannot be gathered.
        if payload.numel() == 0:
            self._merge(gathered)
            self._merged.set_result(None)
            return 0
        work = dist.all_gather(list(gathered), payload, group=self.group, async_op=True)
        work.get_future().then(lambda arrived: self._finish(arrived, gathered))
        return payload.numel()

    def drop(self) -> None:
        """Sends nothing, since the step is skipped."""
        self.parts = []
        self._merged.set_result(None)

    def conclude(self, counts: bool) -> None:
        """Hands the bucket over when it is merged; full of NaN if the step does not count."""
        self._merged.then(lambda merged: self._hand_over(merged, counts))

    def _finish(self, arrived: "torch.futures.Future[Any]", gathered: Tensor) -> None:
        try:
            arrived.value()
            self._merge(gathered)
        except Exception as error:  # noqa: BLE001  # it belongs to whoever waits for the bucket
            self._merged.set_exception(error)  # type: ignore[arg-type]
        else:
            self._merged.set_result(None)

    def _merge(self, gathered: Tensor) -> None:
        counts, scale = self.counts.tolist(), 1.0 / self.world_size
        wire = self._wire_name()
        _core.exchange.merge(self.bucket, gathered.numpy(), counts, self.wide, scale, wire)

    def _wire_name(self) -> str | None:
        return None if self.wire is None else str(self.wire).removeprefix("torch.")

    def _hand_over(self, merged: "torch.futures.Future[None]", counts: bool) -> None:
        try:
            merged.value()
            if not counts:
                self.bucket.fill_(math.nan)
        except Exception as error:  # noqa: BLE001  # as above
            self.future.set_exception(error)  # type: ignore[arg-type]
        else:
            self.future.set_result(self.bucket)


def wire_type(dtype: torch.dtype, chosen: torch.dtype | None, index: int) -> torch.dtype | None:
    """The type that a bucket's values are sent in; None is their own.

    Raises:
        TypeError: a type was chosen that those of this bucket cannot be rounded to.
    """
    if chosen is None or dtype.itemsize == chosen.itemsize:
        return None
    if dtype is not torch.float32:
        raise TypeError(
            f"wire_dtype: expected None for bucket {index}, whose gradients are {dtype}"
        )
    return chosen


def check_gradients(buffer: Tensor, parameters: Sequence[Tensor], index: int) -> None:
    if buffer.layout is not torch.strided:
        raise TypeError(f"bucket {index}: expected dense gradients, got {buffer.layout}")
    if buffer.device.type != "cpu":
        raise ValueError(f"bucket {index}: expected gradients on the CPU, got {buffer.device}")
    # The buffer of complex gradients says that it is real.
    for dtype in (buffer.dtype, *(p.dtype for p in parameters if p.is_complex())):
        if dtype not in RESIDUAL_DTYPES:
            raise TypeError(
                f"bucket {index}: expected gradients of dtype float32, float64, bfloat16 or "
                f"float16, got {dtype}"
            )


def vanishes(gradient: Tensor) -> bool:
    """Whether all elements are zero; most often the first ones say no."""
    return not (bool(gradient[:256].any()) or bool(gradient.any()))
