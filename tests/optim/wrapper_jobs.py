"""What the processes of test_wrappers.py do: models as torch's own wrappers make them are trained
with torch's optimizer and with ours."""

# No `from __future__ import annotations`: torch looks at the annotations of hooks.
import warnings
from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, Replicate, init_device_mesh

from subgrad_fast.optim import SGD, ThresholdSGD
from tests.optim.torch_twins import TorchSteps, assert_same

RULE = {"lr": 0.05, "momentum": 0.9, "weight_decay": 0.01, "nesterov": True}
STEPS = 4

Optimizer = type[torch.optim.SGD]


def model() -> nn.Sequential:
    """The same in every process and call. Seven rows are uneven over two and three processes."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(12, 16), nn.ReLU(), nn.Linear(16, 7), nn.ReLU(), nn.Linear(7, 3))


def batches(seed: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(8, 12, generator=generator) for _ in range(STEPS)]


def whole(tensor: Any) -> Any:
    """A copy of a tensor, of a DTensor in one piece."""
    if isinstance(tensor, DTensor):
        tensor = tensor.full_tensor()
    return tensor.detach().clone() if isinstance(tensor, Tensor) else tensor


def train(trained: nn.Module, optimizer: Any, seed: int) -> list[Any]:
    """Losses, and what the parameters are in the end."""
    losses = []
    for x in batches(seed):
        optimizer.zero_grad()
        loss = trained(x).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(whole(loss))
    return [losses, [whole(p) for p in trained.parameters()]]


def compare(run: Callable[[Optimizer], Any], *, routed: bool = False) -> None:
    """The same bits from both; `routed`: whether torch's code steps ours."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch's wrappers, about themselves
        want = run(torch.optim.SGD)
        with TorchSteps() as torchs:
            got = run(SGD)
    assert bool(torchs.params) == routed, f"torch stepped {len(torchs.params)} parameters"
    assert_same(got, want)
    assert len(want[0]) == STEPS and len({float(x) for x in want[0]}) == STEPS


def ddp(group: Any, rank: int) -> None:
    def run(cls: Optimizer) -> Any:
        made = nn.parallel.DistributedDataParallel(model())
        return train(made, cls(made.parameters(), **RULE), rank)

    compare(run)


def zero(group: Any, rank: int) -> None:
    """Each process steps its part of the parameters, and the state comes together again."""

    def run(cls: Optimizer) -> Any:
        from torch.distributed.optim import ZeroRedundancyOptimizer  # warns of torch itself

        made = nn.parallel.DistributedDataParallel(model())
        optimizer = ZeroRedundancyOptimizer(made.parameters(), optimizer_class=cls, **RULE)
        trained = train(made, optimizer, rank)
        optimizer.consolidate_state_dict(0)
        state = optimizer.state_dict()["state"] if rank == 0 else {}
        return [*trained, [whole(state[i]["momentum_buffer"]) for i in sorted(state)]]

    compare(run)


def fsdp1(group: Any, rank: int, use_orig_params: bool) -> None:
    from torch.distributed.fsdp import FullyShardedDataParallel

    def run(cls: Optimizer) -> Any:
        made = FullyShardedDataParallel(
            model(), device_id=torch.device("cpu"), use_orig_params=use_orig_params
        )
        trained = train(made, cls(made.parameters(), **RULE), rank)
        with FullyShardedDataParallel.summon_full_params(made):
            return [*trained, [whole(p) for p in made.parameters()]]

    compare(run)


def sharded(mesh: Any = None) -> nn.Sequential:
    from torch.distributed.fsdp import fully_shard

    made = model()
    mesh = mesh or init_device_mesh("cpu", (dist.get_world_size(),))
    for layer in made:
        if isinstance(layer, nn.Linear):
            fully_shard(layer, mesh=mesh)
    return fully_shard(made, mesh=mesh)


def fsdp2(group: Any, rank: int) -> None:
    def run(cls: Optimizer) -> Any:
        made = sharded()
        return train(made, cls(made.parameters(), **RULE), rank)

    compare(run)


def fsdp2_alone(group: Any, rank: int) -> None:
    """In one process it is the step of a model that nobody has sharded."""

    def run(cls: Optimizer) -> Any:
        plain = model()
        made = plain if cls is torch.optim.SGD else sharded()
        return train(made, cls(made.parameters(), **RULE), rank)

    compare(run)


def fsdp2_clipped(group: Any, rank: int) -> None:
    """Our bound is torch's, to the rounding of the norm; it is the same in every process."""
    found = []
    for ours in (False, True):
        made = sharded()
        optimizer = (
            SGD(made.parameters(), lr=0.05, max_norm=0.1)
            if ours
            else torch.optim.SGD(made.parameters(), lr=0.05)
        )
        for x in batches(rank):
            optimizer.zero_grad()
            made(x).square().mean().backward()
            if not ours:
                norm = whole(nn.utils.clip_grad_norm_(made.parameters(), 0.1))
            optimizer.step()
        if ours:
            norm = optimizer.grad_norm
        found.append([norm, *(whole(p) for p in made.parameters())])
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, check_dtype=False, rtol=1e-5, atol=1e-7)


def tensor_parallel(group: Any, rank: int, with_fsdp: bool) -> None:
    from torch.distributed.fsdp import fully_shard
    from torch.distributed.tensor.parallel import (
        ColwiseParallel,
        RowwiseParallel,
        parallelize_module,
    )

    sizes = (2, 2) if with_fsdp else (dist.get_world_size(),)
    names = ("dp", "tp") if with_fsdp else ("tp",)

    def run(cls: Optimizer) -> Any:
        mesh = init_device_mesh("cpu", sizes, mesh_dim_names=names)
        made = model()
        plan = {"0": ColwiseParallel(), "2": RowwiseParallel(), "4": ColwiseParallel()}
        plan["4"] = ColwiseParallel(output_layouts=Replicate())
        parallelize_module(made, mesh["tp"], plan)
        if with_fsdp:
            fully_shard(made, mesh=mesh["dp"])
        # What several tensor-parallel processes see is one batch.
        return train(made, cls(made.parameters(), **RULE), rank // 2 if with_fsdp else 0)

    compare(run)


def sequence_parallel(group: Any, rank: int) -> None:
    """Norms are replicated, and their gradients come from parts of the sequence."""
    from torch.distributed.tensor import Shard
    from torch.distributed.tensor.parallel import SequenceParallel, parallelize_module

    def run(cls: Optimizer) -> Any:
        torch.manual_seed(0)
        mesh = init_device_mesh("cpu", (dist.get_world_size(),))
        made = nn.Sequential(nn.LayerNorm(12))
        parallelize_module(made, mesh, {"0": SequenceParallel()})
        optimizer = cls(made.parameters(), lr=0.05)
        losses = []
        for x in batches(0):
            optimizer.zero_grad()
            share = DTensor.from_local(x.unflatten(0, (2, 4)), mesh, [Shard(1)])
            loss = (made(share) ** 3).sum()
            loss.backward()
            optimizer.step()
            losses.append(whole(loss))
        return [losses, [whole(p) for p in made.parameters()]]

    compare(run)


# --- checkpoints ----------------------------------------------------------------------------------


OPTIMIZERS: dict[str, Callable[[Any], Any]] = {
    "torch": lambda params: torch.optim.SGD(params, **RULE),
    "ours": lambda params: SGD(params, **RULE),
    "average": lambda params: SGD(params, **RULE, ema_decay=0.9),
    "threshold": lambda params: ThresholdSGD(
        params, lr=0.05, momentum=0.9, density=0.3, scope="global"
    ),
}


def _one_batch(made: nn.Module, optimizer: Any, seed: int) -> None:
    optimizer.zero_grad()
    made(batches(0)[seed]).square().mean().backward()
    optimizer.step()


def save(group: Any, rank: int, optimizer: str, folder: str) -> None:
    import torch.distributed.checkpoint as dcp
    from torch.distributed.checkpoint.state_dict import get_state_dict

    made = sharded()
    stepped = OPTIMIZERS[optimizer](made.parameters())
    for i in range(2):
        _one_batch(made, stepped, i)
    weights, state = get_state_dict(made, stepped)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dcp.save({"model": weights, "optimizer": state}, checkpoint_id=folder)


def load(group: Any, rank: int, optimizer: str, folder: str) -> list[Any]:
    """What momentum and weights are after loading, and after a step with given gradients."""
    import torch.distributed.checkpoint as dcp
    from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict

    made = sharded()
    stepped = OPTIMIZERS[optimizer](made.parameters())
    weights, state = get_state_dict(made, stepped)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dcp.load({"model": weights, "optimizer": state}, checkpoint_id=folder)
        set_state_dict(made, stepped, model_state_dict=weights, optim_state_dict=state)
    found = [[whole(p) for p in made.parameters()]]
    slots = [n for n in ("momentum_buffer", "ema", "residual") if n in _first(stepped)]
    found += [[whole(stepped.state[p][n]) for p in made.parameters()] for n in slots]
    generator = torch.Generator().manual_seed(9)
    for p in made.parameters():
        given = torch.randn(p.shape, generator=generator)
        from torch.distributed.tensor import distribute_tensor

        p.grad = distribute_tensor(given, p.device_mesh, p.placements)
    stepped.step()
    found.append([whole(p) for p in made.parameters()])
    return [[x.numpy() for x in part] for part in found]


def _first(optimizer: Any) -> dict[str, Any]:
    slots: dict[str, Any] = next(iter(optimizer.state.values()))
    return slots
