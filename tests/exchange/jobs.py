"""What the processes of test_hook.py do."""

# No `from __future__ import annotations`: torch looks at the annotations of a hook.
import io
import pickle
import time
from typing import Any
from unittest import mock

import numpy as np
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from subgrad_fast import _core
from subgrad_fast.distributed import SparseState, mean_state, sparse_hook
from subgrad_fast.distributed import state as distributed_state

INTEGERS = {2: torch.int16, 4: torch.int32, 8: torch.int64}


def array(tensor: torch.Tensor | None) -> np.ndarray | None:
    """A copy as NumPy; bfloat16 as ml_dtypes'."""
    if tensor is None:
        return None
    tensor = tensor.detach().contiguous().clone()
    if tensor.dtype != torch.bfloat16:
        return tensor.numpy()
    import ml_dtypes

    return tensor.view(torch.int16).numpy().view(ml_dtypes.bfloat16)


class Net(nn.Module):
    """A small network with everything that DistributedDataParallel treats on its own.

    One convolution whose weight lies in memory with its channels last, one branch that a rank may
    leave unused in a step, and one that nobody ever uses if `unused`.
    """

    def __init__(self, unused: bool) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 6, 3).to(memory_format=torch.channels_last)
        self.first = nn.Linear(24, 40)
        self.branch = nn.Linear(40, 40)
        self.last = nn.Linear(40, 5)
        if unused:
            self.idle = nn.Linear(3, 3)

    def forward(self, x: torch.Tensor, use_branch: bool) -> torch.Tensor:
        x = torch.relu(self.conv(x)).flatten(1)
        x = torch.relu(self.first(x))
        if use_branch:
            x = x + torch.tanh(self.branch(x))
        return self.last(x)


def make_net(dtype: str, unused: bool) -> Net:
    torch.manual_seed(0)
    return Net(unused).to(getattr(torch, dtype))


def dyadic(net: Net, batch: torch.Tensor) -> torch.Tensor:
    """A loss whose gradients are small multiples of 3/4: thirds of them sum without rounding."""
    multiples = (batch.flatten()[:7] * 8).round() * 0.75
    return sum(
        (p.flatten() * multiples.repeat(p.numel() // 7 + 1)[: p.numel()]).sum()
        for name, p in net.named_parameters()
        if not name.startswith("idle")
    )  # type: ignore[return-value]


class Exact(nn.Module):
    """`dyadic` as a module of its own, for DistributedDataParallel."""

    def __init__(self, net: Net) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: torch.Tensor, _: bool) -> torch.Tensor:
        return dyadic(self.net, x)


def spoilt(gradient: torch.Tensor, value: float) -> torch.Tensor:
    gradient = gradient.clone()
    gradient[-1] = value
    return gradient


def train(
    group: Any,
    rank: int,
    *,
    settings: dict[str, Any] | None,
    steps: int = 4,
    dtype: str = "float32",
    exact: bool = False,
    branch: str = "always",
    accumulate: int = 1,
    nap: float = 0.0,
    bad: dict[str, Any] | None = None,
    omit: int | None = None,
    resume: dict[str, Any] | None = None,
    **options: Any,
) -> dict[str, Any]:
    """Trains with `settings` for the hook (None: without it), and reports what happened.

    branch: "always" used, "sometimes" by some ranks only and at times by none.
    accumulate: backward passes a step, all but the last under no_sync().
    nap: seconds that rank 0 sleeps in every step, so that the ranks are out of step.
    bad: a step, a rank, a parameter's name and what the last row of its gradient is then.
    omit: a step that is not made at all.
    resume: step, net, optimizer and perhaps state as they were saved.
    """
    net = make_net(dtype, unused=options.get("find_unused_parameters", False))
    model = DistributedDataParallel(
        Exact(net) if exact else net,
        process_group=group,
        bucket_cap_mb=options.pop("bucket_cap_mb", 0.004),
        **options,
    )
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9)
    names = {p: name for name, p in net.named_parameters()}
    state = None
    seen: list[dict[str, Any]] = []  # of each step, what the hook was given
    if settings is not None:
        state = SparseState(net, process_group=group, **settings)

        def recorded(
            held: SparseState, bucket: dist.GradBucket
        ) -> torch.futures.Future[torch.Tensor]:
            assert held is state
            if bucket.index() == 0:
                seen.append({"gradients": {}, "buckets": []})
            seen[-1]["buckets"].append([names[p] for p in bucket.parameters()])
            # The views that gradients() makes do not have the strides of a parameter, its memory
            # does.
            for p, gradient in zip(bucket.parameters(), bucket.gradients(), strict=True):
                seen[-1]["gradients"][names[p]] = array(gradient.as_strided(p.shape, p.stride()))
            return sparse_hook(held, bucket)

        model.register_comm_hook(state, recorded)

    first = 0
    if resume is not None:
        assert state is not None
        first = resume["step"]
        net.load_state_dict(resume["net"])
        optimizer.load_state_dict(resume["optimizer"])
        if "state" in resume:
            state.load_state_dict(resume["state"])

    averaged = []
    generator = torch.Generator()
    skipped = []
    for step in range(first, steps):
        if step == omit:
            continue
        if nap and rank == 0:
            time.sleep(nap)
        optimizer.zero_grad(set_to_none=not options.get("gradient_as_bucket_view", False))
        spoil = None
        if bad is not None and (step, rank) == (bad["step"], bad["rank"]):
            parameter = dict(net.named_parameters())[bad["name"]]
            spoil = parameter.register_hook(lambda gradient: spoilt(gradient, bad["value"]))
        used = branch == "always" or (step % 3 != 2 and (step + rank) % 2 == 0)
        for part in range(accumulate):
            generator.manual_seed(1000 * step + 10 * rank + part)
            x = torch.randn(8, 2, 4, 4, generator=generator).to(net.last.weight.dtype)
            if part + 1 < accumulate:
                with model.no_sync():
                    model(x, used).square().sum().backward()
            else:
                loss = model(x, used)
                (loss if exact else loss.square().sum()).backward()
        if spoil is not None:
            spoil.remove()
        averaged.append({name: array(p.grad) for p, name in names.items()})
        skipped.append(state is not None and state.skipped)
        if not skipped[-1]:
            optimizer.step()
    return {
        "averaged": averaged,
        "skipped": skipped,
        "parameters": {name: array(p) for p, name in names.items()},
        "momentum": [array(optimizer.state[p].get("momentum_buffer")) for p in names],
        "residuals": {} if state is None else {n: array(r) for n, r in state.residuals.items()},
        "seen": seen,
        "sent": None if state is None else (state.sent_entries, state.sent_bytes, state.step),
        "state": None if state is None else saved(state.state_dict()),
        "pickled": None if state is None else pickle.dumps(state),
        "net": saved(net.state_dict()),
        "optimizer": saved(optimizer.state_dict()),
    }


def train_wide(group: Any, rank: int, **arguments: Any) -> dict[str, Any]:
    """`train` with 64-bit indices, as if 32 bits could not number any bucket."""
    with mock.patch.object(distributed_state, "_INT32_MAX", 0):
        return train(group, rank, **arguments)


def saved(state: dict[str, Any]) -> bytes:
    file = io.BytesIO()
    torch.save(state, file)
    return file.getvalue()


def loaded(state: bytes) -> dict[str, Any]:
    return torch.load(io.BytesIO(state), weights_only=True)


def resume(group: Any, rank: int, *, saves: dict[str, bytes], **arguments: Any) -> dict[str, Any]:
    """`train` from where `saves` were made."""
    resume = {name: loaded(v) if isinstance(v, bytes) else v for name, v in saves.items()}
    return train(group, rank, resume=resume, **arguments)


def gradients_of_one_backward(
    model: DistributedDataParallel, net: Net, rank: int
) -> dict[str, np.ndarray | None]:
    generator = torch.Generator().manual_seed(rank)
    x = torch.randn(8, 2, 4, 4, generator=generator)
    model(x, True).square().sum().backward()
    return {name: array(p.grad) for name, p in net.named_parameters()}


def unpickled(group: Any, rank: int, *, pickled: bytes) -> dict[str, Any]:
    """One backward pass with a state from its pickle, and what it says before it has a model."""
    net = make_net("float32", unused=False)
    model = DistributedDataParallel(net, process_group=group)
    state = pickle.loads(pickled)
    state.process_group = group
    model.register_comm_hook(state, sparse_hook)
    try:
        gradients_of_one_backward(model, net, rank)
        complaint = ""
    except ValueError as error:
        complaint = str(error)
    net = make_net("float32", unused=False)
    model = DistributedDataParallel(net, process_group=group)
    state.bind(model)
    model.register_comm_hook(state, sparse_hook)
    averaged = gradients_of_one_backward(model, net, rank)
    return {"complaint": complaint, "averaged": averaged, "step": state.step}


def uneven(group: Any, rank: int, *, settings: dict[str, Any]) -> dict[str, Any]:
    """Ranks with more or fewer batches, under join()."""
    net = make_net("float32", unused=False)
    model = DistributedDataParallel(net, process_group=group, bucket_cap_mb=0.004)
    state = SparseState(net, process_group=group, **settings)
    model.register_comm_hook(state, sparse_hook)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
    generator = torch.Generator().manual_seed(rank)
    with model.join():
        for _ in range(3 + rank):
            optimizer.zero_grad()
            x = torch.randn(8, 2, 4, 4, generator=generator)
            model(x, True).square().sum().backward()
            optimizer.step()
    return {name: array(p) for name, p in net.named_parameters()}


def classify(
    group: Any, rank: int, *, settings: dict[str, Any] | None, steps: int
) -> tuple[float, float]:
    """Loss before and after training a classifier of noisy patterns, on all of the data."""
    generator = torch.Generator().manual_seed(5)
    centers = torch.randn(10, 64, generator=generator)
    labels = torch.randint(10, (1536,), generator=generator)
    data = centers[labels] + 0.7 * torch.randn(1536, 64, generator=generator)
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 10))
    model = DistributedDataParallel(net, process_group=group)
    if settings is not None:
        state = SparseState(net, process_group=group, **settings)
        model.register_comm_hook(state, sparse_hook)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05)
    loss = nn.functional.cross_entropy
    size = dist.get_world_size(group)
    before = loss(net(data), labels).item()
    for step in range(steps):
        rows = torch.arange(32) * size + rank + 32 * size * step
        rows %= len(data)
        optimizer.zero_grad()
        loss(model(data[rows]), labels[rows]).backward()
        optimizer.step()
    return before, loss(net(data), labels).item()


def scaled(
    group: Any, rank: int, *, settings: dict[str, Any] | None, bad: tuple[int, int]
) -> tuple[int, float, list[np.ndarray]]:
    """40 steps under a GradScaler, with a batch that is infinite in one step of one rank.

    How many of them moved the weights, the scale at the end, and what is held back.
    """
    torch.manual_seed(0)
    net = nn.Linear(100, 10)
    model = DistributedDataParallel(net, process_group=group)
    held: list[np.ndarray] = []
    if settings is not None:
        state = SparseState(net, process_group=group, **settings)
        model.register_comm_hook(state, sparse_hook)
    optimizer, scaler = torch.optim.SGD(net.parameters(), lr=0.01), torch.amp.GradScaler("cpu")
    generator, moved = torch.Generator().manual_seed(rank), 0
    for step in range(40):
        optimizer.zero_grad()
        x = torch.randn(4, 100, generator=generator)
        if (step, rank) == bad:
            x *= float("inf")
        before = net.weight.detach().clone()
        scaler.scale(model(x).pow(2).mean()).backward()
        scaler.step(optimizer)
        scaler.update()
        moved += not torch.equal(before, net.weight)
    if settings is not None:
        held = [array(residual) for residual in state.residuals.values()]  # type: ignore[misc]
    return moved, scaler.get_scale(), held


def beyond_float16(group: Any, rank: int, *, steps: int) -> dict[str, np.ndarray]:
    """Equal gradients of 49152, of which one entry is sent in a step: residuals outgrow float16."""
    net = nn.Linear(8, 2, bias=False).half()
    model = DistributedDataParallel(net, process_group=group)
    state = SparseState(net, k=1, process_group=group)
    model.register_comm_hook(state, sparse_hook)
    given, moved = torch.zeros(2, 8), torch.zeros(2, 8)
    for _ in range(steps):
        net.zero_grad()
        own = torch.full((2, 8), 49152.0) * (-1) ** torch.arange(8)
        model(torch.eye(8).half()).float().mul(own.t()).sum().backward()
        given += own
        assert net.weight.grad is not None
        moved += net.weight.grad.float()
    rest = state.residuals["weight"]
    return {"given": given.numpy(), "moved": moved.numpy(), "rest": rest.clone().numpy()}


def complaint(group: Any, rank: int, *, case: str) -> str:
    """What backward() says to gradients that the hook cannot exchange."""
    net: nn.Module = nn.Linear(4, 4)
    batch = torch.ones(2, 4)
    if case == "sparse":
        net, batch = nn.Embedding(10, 4, sparse=True), torch.tensor([1, 2])
    elif case == "complex":
        net, batch = nn.Linear(4, 4, dtype=torch.complex64), torch.ones(2, 4, dtype=torch.complex64)
    elif case == "wire":
        net, batch = net.double(), batch.double()
    model = DistributedDataParallel(net, process_group=group)
    state = SparseState(nn.Linear(4, 4) if case == "other model" else net, density=0.5)
    state.process_group = group
    model.register_comm_hook(state, sparse_hook)
    if case == "wire":
        state.wire_dtype = torch.bfloat16
    if case == "settings":
        state.threshold = 0.1
    broken = ValueError("broken on purpose") if case == "merge" else None
    merge = mock.Mock(side_effect=broken, wraps=_core.exchange.merge)
    with mock.patch.object(_core.exchange, "merge", merge):
        try:
            model(batch).abs().sum().backward()
        except Exception as error:
            return f"{type(error).__name__}: {error}"
    return ""


def states(group: Any, rank: int) -> list[str]:
    """What load_state_dict says to states that do not fit, and that it leaves everything alone."""
    net = nn.Linear(3, 2)
    state = SparseState(net, density=0.5, process_group=group)
    good = state.state_dict()
    good["residuals"] = {"weight": torch.ones(2, 3)}
    state.load_state_dict(good)
    messages = []
    for change in (
        {"rank": rank + 1},
        {"world_size": 9},
        {"version": 2},
        {"residuals": {"weight": torch.zeros(2, 3), "gone": torch.zeros(1)}},
        {"residuals": {"weight": torch.zeros(3, 2)}},
    ):
        try:
            state.load_state_dict({**good, "step": 5, **change})
        except ValueError as error:
            messages.append(str(error))
        assert state.step == 0 and bool((state.residuals["weight"] == 1).all())
    state.load_state_dict({**mean_state([{**good, "rank": 0, "world_size": 1}]), "step": 5})
    assert state.step == 5
    assert state.residuals["weight"] is not good["residuals"]["weight"]
    return messages


def fail_on_rank_1(group: Any, rank: int) -> None:
    """For the harness: one rank fails and the others wait for it."""
    if rank == 1:
        raise RuntimeError("on purpose")
    dist.barrier(group)
