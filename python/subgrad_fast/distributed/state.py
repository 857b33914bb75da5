"""What an exchange of sparse gradients keeps between steps: settings, residuals, work under way."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch._C._distributed_c10d import GradBucket
from torch.nn import Module
from torch.nn.parallel import DistributedDataParallel

from subgrad_fast._arguments import check_names, flag, integer, quoted
from subgrad_fast.distributed.exchange import (
    RESIDUAL_DTYPES,
    Exchange,
    check_gradients,
    flat_view,
    vanishes,
    wire_type,
)
from subgrad_fast.distributed.residuals import Residuals, all_finite, check_residuals
from subgrad_fast.distributed.selection import check_choice, choose

_INT32_MAX = 2**31 - 1
_WIRE_DTYPES = (None, torch.bfloat16, torch.float16)
_STATE = ("version", "rank", "world_size", "step", "residuals")


class SparseState:
    """What `sparse_hook` keeps between steps, and what it is told to send.

    Exactly one of `threshold`, `density` and `k` is given. They are attributes and may be changed
    between steps.

    Args:
        model: the module whose gradients are exchanged, wrapped or not. Residuals are kept by the
            names of its parameters, so they survive that DistributedDataParallel rebuilds its
            buckets. A state belongs to one model.
        threshold: send entries of at least this magnitude. 0 sends everything.
        density: send this share of the entries, those of largest magnitude; between 0 and 1. At
            least one of every tensor (or bucket) is sent, unless it is 0.
        k: send so many entries, those of largest magnitude, or all where there are fewer.
        scope: what `density` and `k` refer to, and what is ranked together: each "tensor", or each
            "bucket", whose content is DistributedDataParallel's choice.
        error_feedback: keep what was not sent and add it to the next gradient (Seide et al. 2014;
            Karimireddy et al. 2019, arXiv:1901.09847). If False it is dropped.
        wire_dtype: ``torch.bfloat16`` or ``torch.float16``: send the values of float32 gradients
            so, and keep what rounding loses in the residual (without error feedback it is lost).
            Those of 16 bits go as they are. All ranks must have the same.
        start_step: average densely, as without a hook, in so many steps first.
        process_group: the group to exchange with, the same as DistributedDataParallel's; None is
            the default group.

    Raises:
        TypeError: `model` is no module.
        ValueError: a number is out of range, or `scope` or `wire_dtype` is another.
    """

    def __init__(
        self,
        model: Module,
        *,
        threshold: float | None = None,
        density: float | None = None,
        k: int | None = None,
        scope: str = "tensor",
        error_feedback: bool = True,
        wire_dtype: torch.dtype | None = None,
        start_step: int = 0,
        process_group: Any = None,
    ) -> None:
        self.threshold = threshold
        self.density = density
        self.k = k
        self.scope = scope
        self.error_feedback = error_feedback
        self.wire_dtype = wire_dtype
        self.start_step = start_step
        self.process_group = process_group
        self._step = 0
        self._residuals = Residuals()
        self._under_way: list[Exchange] = []
        self._finite = True
        self._skipped = False
        self._bytes = self._last_bytes = 0
        self._entries = self._last_entries = 0
        self._check_choices()
        self.bind(model)

    def bind(self, model: Module) -> None:
        """Tells a state that was unpickled or copied which model it belongs to.

        Raises:
            TypeError: `model` is no module.
            ValueError: the state holds residuals of parameters that `model` does not have.
        """
        if not isinstance(model, Module):
            raise TypeError(f"model: expected a torch.nn.Module, got {type(model).__name__}")
        module = model.module if isinstance(model, DistributedDataParallel) else model
        parameters = dict(module.named_parameters())
        check_residuals(self._residuals.held, parameters)
        self._parameters = parameters
        self._names: dict[Tensor, str] = {parameter: name for name, parameter in parameters.items()}

    @property
    def step(self) -> int:
        """How many steps have been exchanged, the dense ones at the start included."""
        return self._step

    @property
    def skipped(self) -> bool:
        """Whether the last step does not count, since some rank's gradient was not finite.

        The same on all ranks, whose averaged gradients are NaN then. Of dense steps at the start it
        says nothing.
        """
        return self._skipped

    @property
    def residuals(self) -> dict[str, Tensor]:
        """What this rank holds back, by parameter name; float64 or float32. Not copies."""
        return self._residuals.held

    @property
    def sent_bytes(self) -> int:
        """Bytes that this rank handed to every other rank in the last threshold step."""
        return self._last_bytes

    @property
    def sent_entries(self) -> int:
        """Entries that this rank sent in the last threshold step."""
        return self._last_entries

    def state_dict(self) -> dict[str, Any]:
        """What `load_state_dict` needs to go on with the same bits, on this rank of this many.

        Every rank has residuals of its own: save one state per rank. The tensors are references,
        as in optimizers. Settings (`density`, `scope` ...) are not part of it.
        """
        return {
            "version": 1,
            "rank": dist.get_rank(self.process_group),
            "world_size": dist.get_world_size(self.process_group),
            "step": self._step,
            "residuals": dict(self._residuals.held),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes over a copy of a state that this rank saved, or of one made by `mean_state`.

        Raises:
            ValueError: the state is of another rank or world size, or holds residuals that are not
                finite, or of parameters or shapes that the model does not have. Nothing is loaded
                then.
        """
        check_names(state_dict, _STATE, "state_dict")
        if state_dict["version"] != 1:
            raise ValueError(f"state_dict: unknown version {quoted(state_dict['version'])}")
        if state_dict["rank"] is not None:
            saved = (state_dict["rank"], state_dict["world_size"])
            here = (dist.get_rank(self.process_group), dist.get_world_size(self.process_group))
            if saved != here:
                raise ValueError(
                    f"state_dict: saved by rank {saved[0]} of {saved[1]}, loaded by rank {here[0]} "
                    f"of {here[1]}; save one per rank, and combine them with mean_state if the "
                    "world size changes"
                )
        residuals: dict[str, Tensor] = state_dict["residuals"]
        self._bound()
        check_residuals(residuals, self._parameters)
        step = integer("state_dict['step']", state_dict["step"])
        copies = {name: residual.clone() for name, residual in residuals.items()}
        vars(self).update(_residuals=Residuals(copies), _step=step)  # at once, whatever interrupts

    def __getstate__(self) -> dict[str, Any]:
        """Everything but the process group and the model; a copy needs `bind`."""
        left_out = ("process_group", "_parameters", "_names", "_under_way")
        return {name: value for name, value in vars(self).items() if name not in left_out}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """The process group is the default one; assign `process_group` if it is another."""
        vars(self).update(state, process_group=None, _parameters={}, _names={}, _under_way=[])

    def _check_choices(self) -> None:
        """Raises ValueError unless the settings, which may have been changed, make sense."""
        check_choice(self.threshold, self.density, self.k, self.scope)
        flag("error_feedback", self.error_feedback)
        if not any(self.wire_dtype is known for known in _WIRE_DTYPES):
            raise ValueError(
                "wire_dtype: expected torch.bfloat16, torch.float16 or None, "
                f"got {quoted(self.wire_dtype)}"
            )
        integer("start_step", self.start_step)

    def _bound(self) -> None:
        if not self._parameters:
            raise ValueError("state: knows no model; call its bind(model) after unpickling it")

    def _reduce(self, bucket: GradBucket) -> torch.futures.Future[Tensor]:
        """What `sparse_hook` does."""
        buffer = bucket.buffer()
        self._check_choices()
        self._bound()
        check_gradients(buffer, bucket.parameters(), bucket.index())
        # The same collectives in the same order on all ranks: the counts of a bucket, then the
        # entries of the one before it.
        if self._step < self.start_step:
            future = self._average(buffer)
            self._step += bucket.is_last()
            return future
        if bucket.index() == 0:  # whatever is left is of a backward pass that failed
            self._under_way, self._finite = [], True
            self._residuals.begin()
            self._bytes = self._entries = 0
        wide = buffer.numel() > _INT32_MAX
        wire = wire_type(buffer.dtype, self.wire_dtype, bucket.index())
        parts = self._select(bucket, wide)
        exchange = Exchange(buffer, parts, wide, wire, self.process_group)
        self._send()
        self._under_way.append(exchange)
        if bucket.is_last():
            self._send()
            self._conclude()
        # An error that was set on a future of Python reaches C++ through a callback only.
        return exchange.future.then(lambda done: done.value())

    def _send(self) -> None:
        """Sends what the last bucket under way has to say, unless the step is skipped."""
        if not self._under_way:
            return
        exchange = self._under_way[-1]
        self._finite = exchange.finite() and self._finite
        if self._finite:
            self._bytes += exchange.send()
            self._entries += exchange.count
        else:
            exchange.drop()

    def _conclude(self) -> None:
        """Now all ranks know that the step counts, or that it does not."""
        if self._finite:
            self._residuals.keep()
            self._step += 1
        self._skipped = not self._finite
        self._last_bytes, self._last_entries = self._bytes, self._entries
        for exchange in self._under_way:
            exchange.conclude(self._finite)
        self._under_way = []

    def _average(self, buffer: Tensor) -> torch.futures.Future[Tensor]:
        buffer.mul_(1.0 / dist.get_world_size(self.process_group))  # as without a hook
        work = dist.all_reduce(buffer, group=self.process_group, async_op=True)
        future: torch.futures.Future[Tensor] = work.get_future().then(lambda done: done.value()[0])
        return future

    def _select(self, bucket: GradBucket, wide: bool) -> list[Any] | None:
        """What to send of each tensor: indices, values, its offset, and what holds the rest.

        None if the step does not count.
        """
        buffer = bucket.buffer()
        parameters = bucket.parameters()
        names = [self._name(parameter, bucket) for parameter in parameters]
        if not self._finite:
            return None
        flat = [flat_view(gradient) for gradient in bucket.gradients()]
        offsets = [gradient.storage_offset() - buffer.storage_offset() for gradient in flat]
        if not self.error_feedback:
            if not all_finite(flat):
                return None
            parts = self._chosen(flat, wide)
            return [
                (indices, values, offset, None)
                for (indices, values, _), offset in zip(parts, offsets, strict=True)
            ]
        dtype = RESIDUAL_DTYPES[buffer.dtype]
        held = [
            self._residuals.add(name, parameter, gradient, dtype)
            for name, parameter, gradient in zip(names, parameters, flat, strict=True)
        ]
        # The sums, so that no residual overflows either.
        if not all_finite(held):
            return None
        # What is sent for a parameter that no rank used would be lost; see sparse_hook.
        active = [i for i in range(len(flat)) if not vanishes(flat[i]) or vanishes(held[i])]
        parts = self._chosen([held[i] for i in active], wide)
        return [
            (indices, values, offsets[i], held[i])
            for i, (indices, values, _) in zip(active, parts, strict=True)
        ]

    def _chosen(self, tensors: list[Tensor], wide: bool) -> list[Any]:
        together = self.scope == "bucket"
        return choose(tensors, self.threshold, self.density, self.k, together=together, wide=wide)

    def _name(self, parameter: Tensor, bucket: GradBucket) -> str:
        name = self._names.get(parameter)
        if name is None:
            raise ValueError(
                f"state: bucket {bucket.index()} has a parameter of shape "
                f"{tuple(parameter.shape)} that the state's model does not have; a SparseState "
                "belongs to one model"
            )
        return name
