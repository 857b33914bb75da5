"""What the processes of test_dtensor.py do: every one compares what it holds with one process's."""

# No `from __future__ import annotations`: torch looks at the annotations of hooks.
from collections.abc import Sequence
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.tensor import (
    DTensor,
    Partial,
    Replicate,
    Shard,
    distribute_tensor,
    init_device_mesh,
)
from torch.nn import Parameter

from subgrad_fast.optim import SGD, ThresholdSGD
from tests.cases import RULE
from tests.optim.torch_twins import TorchSteps, assert_same

SHAPES = [(8, 6), (7, 5), (1, 3), (11,), (3, 4, 5)]
"""Even and uneven over two and three processes; of the third some have nothing."""

# How many processes along each dimension of a mesh, and what they hold.
Layout = tuple[tuple[int, ...], tuple[Any, ...]]


def layouts(world: int) -> dict[str, Layout]:
    pairs = {1: (1, 1), 2: (1, 2), 3: (3, 1), 4: (2, 2)}[world]
    return {
        "rows": ((world,), (Shard(0),)),
        "columns": ((world,), (Shard(1),)),
        "replicas": ((world,), (Replicate(),)),
        "replicas of rows": (pairs, (Replicate(), Shard(0))),
        "rows of replicas": (pairs, (Shard(0), Replicate())),
        "rows and columns": (pairs, (Shard(0), Shard(1))),
        "rows of rows": (pairs, (Shard(0), Shard(0))),
    }


def placements_for(shape: Sequence[int], placements: Sequence[Any]) -> list[Any]:
    """Vectors have no columns: they are sharded by rows."""
    return [Shard(0) if p.is_shard() and p.dim >= len(shape) else p for p in placements]


class Pair:
    """The same parameters in one piece and distributed; gradients are given to both."""

    def __init__(
        self, layout: Layout, dtype: torch.dtype = torch.float32, *, integers: bool = False
    ) -> None:
        sizes, self.placements = layout
        self.mesh = init_device_mesh("cpu", sizes)
        self.generator = torch.Generator().manual_seed(3)
        self.dtype, self.integers = dtype, integers
        values = [self.random(shape) for shape in SHAPES]
        self.plain = [Parameter(x.clone()) for x in values]
        self.sharded = [Parameter(self.distributed(x)) for x in values]

    def random(self, shape: Sequence[int]) -> Tensor:
        """The same in every process; `integers`: sums of squares have one value in any order."""
        if self.integers:
            x = torch.randint(-9, 10, shape, generator=self.generator).to(torch.float32)
        else:
            x = torch.randn(shape, generator=self.generator)
        return x.to(self.dtype)

    def distributed(self, x: Tensor) -> DTensor:
        return distribute_tensor(x, self.mesh, placements_for(x.shape, self.placements))

    def give_gradients(self, *, skip: int | None = None) -> None:
        for i, (p, q) in enumerate(zip(self.plain, self.sharded, strict=True)):
            g = self.random(p.shape)
            p.grad, q.grad = (None, None) if i == skip else (g, self.distributed(g))

    def assert_equal(self, plain: Any, sharded: Any, slots: Sequence[str] = ()) -> None:
        """The parameters, and what the optimizers keep of them, are the same bits."""
        for i, (p, q) in enumerate(zip(self.plain, self.sharded, strict=True)):
            assert_same(q.detach().full_tensor(), p.detach(), f"parameter {i}")
            for slot in slots:
                kept = sharded.state[q][slot]
                assert type(kept) is DTensor, slot
                assert kept._spec.placements == q._spec.placements
                assert kept.shape == q.shape and kept.stride() == q.stride()
                assert_same(kept.full_tensor(), plain.state[p][slot], f"{slot} {i}")


TERMS: dict[str, dict[str, Any]] = {
    "plain": {"lr": 0.1},
    "rule": RULE,
    "nesterov": {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.01},
    "maximize": {"lr": 0.1, "momentum": 0.9, "dampening": 0.5, "maximize": True},
    "l1": {"lr": 0.1, "momentum": 0.9, "l1": 0.3},
    "clip_value": {"lr": 0.1, "momentum": 0.9, "clip_value": 0.5},
    "ema": {"lr": 0.1, "momentum": 0.9, "ema_decay": 0.9},
}


def slots_of(terms: dict[str, Any]) -> list[str]:
    return ["momentum_buffer"] * ("momentum" in terms) + ["ema"] * ("ema_decay" in terms)


def steps(group: Any, rank: int, layout: str, terms: str, dtype: str) -> None:
    """Our steps on DTensors are those on whole tensors; torch's code takes no part."""
    pair = Pair(layouts(dist.get_world_size())[layout], getattr(torch, dtype))
    plain, sharded = SGD(pair.plain, **TERMS[terms]), SGD(pair.sharded, **TERMS[terms])
    for i in range(5):
        pair.give_gradients(skip=1 if i in (0, 3) else None)
        assert sharded.explain() == []
        plain.step()
        with TorchSteps() as torchs:
            sharded.step()
        assert not torchs.params
        sharded.zero_grad()
        assert all(p.grad is None for p in pair.sharded)
    pair.assert_equal(plain, sharded, slots_of(TERMS[terms]))


def like_torch(group: Any, rank: int, layout: str) -> None:
    """The same state_dict as torch's optimizer has of DTensors, and each loads the other's."""
    rule = TERMS["rule"]
    twins = [Pair(layouts(dist.get_world_size())[layout]) for _ in range(2)]
    ours, torchs = SGD(twins[0].sharded, **rule), torch.optim.SGD(twins[1].sharded, **rule)

    def train(optimizer: Any, pair: Pair) -> list[Tensor]:
        for _ in range(3):
            pair.give_gradients()
            optimizer.step()
        kept = optimizer.state_dict()["state"]
        state = [kept[i]["momentum_buffer"].full_tensor() for i in range(len(pair.sharded))]
        return [*(p.detach().full_tensor() for p in pair.sharded), *state]

    assert_same(train(ours, twins[0]), train(torchs, twins[1]))
    ours2, torchs2 = SGD(twins[1].sharded, **rule), torch.optim.SGD(twins[0].sharded, **rule)
    ours2.load_state_dict(torchs.state_dict())
    torchs2.load_state_dict(ours.state_dict())
    with TorchSteps() as routed:
        mine = train(ours2, twins[1])
    assert not routed.params
    assert_same(mine, train(torchs2, twins[0]))


def no_collective(group: Any, rank: int) -> None:
    """One process steps alone: it waits for nobody."""
    pair = Pair(layouts(dist.get_world_size())["rows"])
    optimizer = SGD(pair.sharded, lr=0.1, momentum=0.9, clip_value=1.0, ema_decay=0.9)
    threshold = ThresholdSGD(pair.sharded, lr=0.1, density=0.5)
    pair.give_gradients()
    before = [p.detach().to_local().clone() for p in pair.sharded]
    if rank == 0:
        for _ in range(3):
            optimizer.step()
            threshold.step()
    changed = any(
        not torch.equal(b, p.detach().to_local()) for b, p in zip(before, pair.sharded, strict=True)
    )
    assert changed == (rank == 0)
    dist.barrier(group)


BOUNDS: dict[str, dict[str, Any]] = {
    "global": {"max_norm": 3.0},
    "group": {"max_norm": 3.0, "max_norm_scope": "group"},
    "tensor": {"max_norm": 3.0, "max_norm_scope": "tensor"},
    "measured": {"measure_norm": True},
}


def bounds(group: Any, rank: int, layout: str, bound: str, foreach: bool | None) -> float:
    """Integers: their squares add up to the same in any order, so that bits are equal."""
    pair = Pair(layouts(dist.get_world_size())[layout], integers=True)
    rule = {"lr": 0.1, "momentum": 0.9, **BOUNDS[bound]}

    def made(params: list[Parameter], foreach: bool | None) -> SGD:
        halves: list[dict[str, Any]] = [{"params": params[:2]}, {"params": params[2:]}]
        return SGD(halves, **rule, foreach=foreach)

    plain, sharded = made(pair.plain, None), made(pair.sharded, foreach)
    for i in range(4):
        pair.give_gradients(skip=1 if i == 1 else None)
        plain.step()
        sharded.step()
        assert sharded.grad_norm is not None
        assert_same(sharded.grad_norm, plain.grad_norm)
    pair.assert_equal(plain, sharded, ["momentum_buffer"])
    return float(sharded.grad_norm)


def mixed(group: Any, rank: int) -> None:
    """Plain parameters, replicas and shards of several meshes count once each in a norm."""
    world = dist.get_world_size()
    pairs = [
        Pair(layouts(world)[name], integers=True)
        for name in ("rows", "replicas", "rows of replicas")
    ]
    lone = Pair(layouts(world)["rows"], integers=True)
    plain = SGD([p for pair in [*pairs, lone] for p in pair.plain], lr=0.1, max_norm=3.0)
    kept = [p.detach().clone() for p in lone.plain]
    sharded = SGD(
        [*(p for pair in pairs for p in pair.sharded), *(own := [Parameter(x) for x in kept])],
        lr=0.1,
        max_norm=3.0,
    )
    for _ in range(3):
        for pair in [*pairs, lone]:
            pair.give_gradients()
        for p, q in zip(lone.plain, own, strict=True):
            q.grad = p.grad
        plain.step()
        sharded.step()
        assert_same(sharded.grad_norm, plain.grad_norm)
    for pair in pairs:
        pair.assert_equal(plain, sharded)
    assert_same([p.detach() for p in own], [p.detach() for p in lone.plain])


def covered_in_one(group: Any, rank: int) -> None:
    """A process whose shard is torch's to step measures with the others all the same, also when no
    DTensor has a gradient."""
    pair = Pair(layouts(dist.get_world_size())["rows"])
    sharded = pair.sharded[0]
    if rank == 1:
        sharded._local_tensor = torch.zeros(1, 6).expand(sharded._local_tensor.shape)
    plain, alone = Parameter(torch.zeros(2)), Parameter(torch.zeros(2))
    optimizer = SGD([sharded, plain], lr=1.0, max_norm=1.0)
    reference = SGD([alone], lr=1.0, max_norm=1.0)
    assert len(optimizer.explain()) == rank
    for _ in range(3):
        plain.grad = alone.grad = torch.tensor([3.0, 4.0])
        optimizer.step()
        reference.step()
        assert optimizer.grad_norm == 5.0
        assert_same(plain.detach(), alone.detach())
    dist.barrier(group)


def not_finite(group: Any, rank: int) -> None:
    """What one process finds stops all of them."""
    pair = Pair(layouts(dist.get_world_size())["rows"])
    optimizer = SGD(pair.sharded, lr=0.1, momentum=0.9, skip_nonfinite=True)
    threshold = ThresholdSGD(pair.sharded, lr=0.1, density=0.5, skip_nonfinite=True)
    pair.give_gradients()
    if rank == dist.get_world_size() - 1:
        pair.sharded[0].grad.to_local()[0, 0] = float("inf")
    before = [p.detach().full_tensor().clone() for p in pair.sharded]
    for one in (optimizer, threshold):
        one.step()
        assert one.grad_norm == float("inf")
        assert_same([p.detach().full_tensor() for p in pair.sharded], before)
    pair.give_gradients()
    optimizer.step()
    assert not torch.equal(pair.sharded[0].detach().full_tensor(), before[0])


def pending_gradients(group: Any, rank: int, momentum: float, max_norm: float | None) -> None:
    """Gradients that wait to be summed are, before anything looks at them."""
    world = dist.get_world_size()
    pair = Pair(layouts(world)["replicas"], integers=True)
    plain = SGD(pair.plain, lr=0.125, momentum=momentum, max_norm=max_norm)
    sharded = SGD(pair.sharded, lr=0.125, momentum=momentum, max_norm=max_norm)
    for _ in range(3):
        for p, q in zip(pair.plain, pair.sharded, strict=True):
            parts = [pair.random(p.shape) for _ in range(world)]
            p.grad = torch.stack(parts).sum(0)
            q.grad = DTensor.from_local(parts[rank], pair.mesh, [Partial()])
        plain.step()
        with TorchSteps() as torchs:
            sharded.step()
        assert not torchs.params
    pair.assert_equal(plain, sharded, ["momentum_buffer"] if momentum else [])


def pending_parameters(group: Any, rank: int) -> None:
    pair = Pair(layouts(dist.get_world_size())["replicas"])
    pending = Parameter(DTensor.from_local(torch.ones(3), pair.mesh, [Partial()]))
    for made in (SGD, lambda params: ThresholdSGD(params, density=0.5)):
        optimizer = made(pair.sharded[:1])
        with pytest.raises(ValueError, match=r"^params\[1\]: .*Partial"):
            made([pair.sharded[0], pending])
        with pytest.raises(ValueError, match=r"^params\[0\]: .*Partial"):
            optimizer.add_param_group({"params": [pending]})
        assert len(optimizer.param_groups) == 1


def moved(group: Any, rank: int) -> None:
    """Shards that are replaced between steps, as FSDP does it, are stepped where they are; so are
    shards that lie elsewhere, and a momentum buffer that is another DTensor."""
    pair = Pair(layouts(dist.get_world_size())["rows"])
    plain, sharded = SGD(pair.plain, **RULE), SGD(pair.sharded, **RULE)
    for i in range(9):
        pair.give_gradients()
        plain.step()
        with TorchSteps() as torchs:
            sharded.step()
        assert not torchs.params
        if i == 1:
            left = pair.sharded[0]._local_tensor
            pair.sharded[0]._local_tensor = left.clone()
            left.fill_(float("nan"))
        if i == 2:
            buffer = sharded.state[pair.sharded[1]]["momentum_buffer"]
            left = buffer._local_tensor
            buffer._local_tensor = left.clone()
            left.fill_(float("nan"))
        if i == 3:
            sharded.load_state_dict(sharded.state_dict())
        if i == 5:
            for kept in (pair.sharded[3], sharded.state[pair.sharded[4]]["momentum_buffer"]):
                shard = kept._local_tensor
                left = shard.detach()
                shard.data = shard.detach().clone()
                left.fill_(float("nan"))
        if i == 6:
            slots = sharded.state[pair.sharded[0]]
            left = slots["momentum_buffer"]
            slots["momentum_buffer"] = left.clone()
            left._local_tensor.fill_(float("nan"))
    pair.assert_equal(plain, sharded, ["momentum_buffer"])


def averages(group: Any, rank: int, dtype: str) -> None:
    """Averages swapped in and out, saved whole and sharded, and loaded."""
    pair = Pair(layouts(dist.get_world_size())["rows"], getattr(torch, dtype))
    rule = {"lr": 0.1, "momentum": 0.9, "ema_decay": 0.9}

    class Holder(torch.nn.Module):
        def __init__(self, params: list[Parameter]) -> None:
            super().__init__()
            self.params = torch.nn.ParameterList(params)

    holders = [Holder(pair.plain), Holder(pair.sharded)]
    plain, sharded = SGD(pair.plain, **rule), SGD(pair.sharded, **rule)
    for _ in range(3):
        pair.give_gradients()
        plain.step()
        sharded.step()
    pair.assert_equal(plain, sharded, ["ema"])
    with plain.averaged(), sharded.averaged():
        pair.assert_equal(plain, sharded)
    pair.assert_equal(plain, sharded)
    whole = plain.ema_state_dict(holders[0])
    parts = sharded.ema_state_dict(holders[1])
    for state in (whole, parts):
        sharded.load_ema_state_dict(holders[1], state)
        pair.assert_equal(plain, sharded, ["ema"])
    sharded.load_state_dict(sharded.state_dict())
    pair.give_gradients()
    plain.step()
    sharded.step()
    pair.assert_equal(plain, sharded, ["momentum_buffer", "ema"])


# --- a thresholded step ---------------------------------------------------------------------------


def threshold_of_shards(group: Any, rank: int, layout: str) -> None:
    """scope="tensor": each shard has its own threshold, as if it were a tensor."""
    pair = Pair(layouts(dist.get_world_size())[layout])
    alone = [Parameter(p.detach().to_local().clone()) for p in pair.sharded]
    rule = {"lr": 0.1, "momentum": 0.9, "density": 0.25}
    mine, shards = ThresholdSGD(alone, **rule), ThresholdSGD(pair.sharded, **rule)
    for _ in range(4):
        pair.give_gradients()
        for p, q in zip(alone, pair.sharded, strict=True):
            p.grad = q.grad.to_local().clone()
        mine.step()
        shards.step()
        assert shards.last_result.kept == mine.last_result.kept
    for p, q in zip(alone, pair.sharded, strict=True):
        assert_same(q.detach().to_local(), p.detach())
        for name in ("residual", "momentum_buffer"):
            assert type(shards.state[q][name]) is DTensor
            assert_same(shards.state[q][name].to_local(), mine.state[p][name])


CHOICES: dict[str, dict[str, Any]] = {
    "few": {"density": 0.05},
    "many": {"density": 0.6},
    "all": {"density": 1.0},
    "none": {"density": 0.0},
    "absolute": {"threshold": 1.0},
    "corrected": {"density": 0.2, "momentum": 0.9},
    "bounded": {"density": 0.2, "momentum": 0.9, "max_norm": 3.0},
    "dropped": {"density": 0.2, "error_feedback": False},
}


def threshold_together(
    group: Any, rank: int, layout: str, choice: str, integers: bool, dtype: str
) -> int:
    """scope="global": the same elements as in one process. Integers: with many ties."""
    pair = Pair(layouts(dist.get_world_size())[layout], getattr(torch, dtype), integers=integers)
    rule = {"lr": 0.125, "scope": "global", **CHOICES[choice]}
    plain, sharded = ThresholdSGD(pair.plain, **rule), ThresholdSGD(pair.sharded, **rule)
    kept = 0
    for i in range(4):
        pair.give_gradients(skip=1 if i == 1 else None)
        plain.step()
        sharded.step()
        assert sharded.last_result.thresholds == plain.last_result.thresholds
        kept += sum(plain.last_result.kept)
    slots = [n for n in ("residual", "momentum_buffer") if n in plain.state[pair.plain[0]]]
    pair.assert_equal(plain, sharded, slots)
    return kept


def threshold_mixed(group: Any, rank: int) -> None:
    """Plain parameters and replicas beside shards, all under one threshold, ties among them."""
    world = dist.get_world_size()
    shards, copies, lone = (
        Pair(layouts(world)[name], integers=True) for name in ("rows", "replicas", "rows")
    )
    copies.sharded = [Parameter(copies.distributed(p.detach())) for p in copies.plain]
    pairs = [lone, shards, copies]
    own = [Parameter(p.detach().clone()) for p in lone.plain]
    rule = {"lr": 0.125, "scope": "global", "density": 0.3}
    plain = ThresholdSGD([p for pair in pairs for p in pair.plain], **rule)
    one = [*own, *shards.sharded]
    sharded = ThresholdSGD([*one, *copies.sharded], **rule)
    for _ in range(3):
        for pair in pairs:
            pair.give_gradients()
        for p, q in zip(lone.plain, own, strict=True):
            q.grad = p.grad
        plain.step()
        sharded.step()
    for pair in (shards, copies):
        pair.assert_equal(plain, sharded, ["residual"])
    assert_same([p.detach() for p in own], [p.detach() for p in lone.plain])


def threshold_meshes(group: Any, rank: int) -> None:
    """One threshold over two meshes is refused by name; nothing has changed."""
    world = dist.get_world_size()
    pairs = [Pair(layouts(world)[name]) for name in ("rows", "rows of rows")]
    params = [p for pair in pairs for p in pair.sharded]
    optimizer = ThresholdSGD(params, lr=0.1, scope="global", density=0.5)
    for pair in pairs:
        pair.give_gradients()
    before = [p.detach().full_tensor().clone() for p in params]
    with pytest.raises(ValueError, match=r"^scope: "):
        optimizer.step()
    assert_same([p.detach().full_tensor() for p in params], before)
    assert not optimizer.state


def threshold_state(group: Any, rank: int) -> None:
    """A state that is loaded goes on with the same bits, of bfloat16 too."""
    pair = Pair(layouts(dist.get_world_size())["rows"], torch.bfloat16)
    rule = {"lr": 0.1, "momentum": 0.9, "density": 0.25, "scope": "global"}
    plain, sharded = ThresholdSGD(pair.plain, **rule), ThresholdSGD(pair.sharded, **rule)
    for i in range(4):
        pair.give_gradients()
        plain.step()
        sharded.step()
        if i == 1:
            saved = sharded.state_dict()
            sharded = ThresholdSGD(pair.sharded, **rule)
            sharded.load_state_dict(saved)
    pair.assert_equal(plain, sharded, ["residual", "momentum_buffer"])
