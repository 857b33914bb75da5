"""Lives of an optimizer: what people do to one between two steps, drawn at random from a seed.

`live(cls, seed)` leads one with an optimizer class and tells it step by step. What it draws depends
on the seed alone, so that two classes can be led through the same life and compared.
"""

from __future__ import annotations

import copy
import pickle
import random
import threading
from collections import UserDict, defaultdict
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

SHAPES = [(), (1,), (0,), (5,), (17,), (4, 4), (4, 4), (4, 4), (3, 5), (2, 3, 4, 5), (70, 70)]


class Named(Parameter):
    """A parameter as libraries make them: with more attributes, and torch's operations."""


class Tagged(torch.Tensor):
    """A subclass whose operations give the subclass."""


class Looks(TorchDispatchMode):
    """A mode that sees the operations of a step, and lets them be."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return func(*args, **(kwargs or {}))


class LooksAbove(TorchFunctionMode):
    """The same on the level of Python's functions."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return func(*args, **(kwargs or {}))


def plain(tensor: Tensor) -> Tensor:
    """The tensor without its class."""
    return tensor.detach().as_subclass(torch.Tensor)


class Life:
    """One optimizer, its parameters, and the chance that leads it."""

    def __init__(self, cls: type, seed: int) -> None:
        self.chance = random.Random(seed)
        torch.manual_seed(seed)
        self.params = [self.new_param() for _ in range(self.chance.choice([1, 1, 2, 3, 6]))]
        self.optimizer: Any = cls(self.groups(self.params), lr=0.1, **self.terms())
        self.saved: Any = None
        self.counts = [0, 0]

    # --- what it is made of ---

    def terms(self) -> dict[str, Any]:
        chance = self.chance
        momentum = chance.choice([0.0, 0.5, 0.9, 0.9])
        nesterov = momentum > 0 and chance.random() < 0.3
        return {
            "momentum": momentum,
            "nesterov": nesterov,
            "dampening": 0.0 if nesterov else chance.choice([0.0, 0.1]),
            "weight_decay": chance.choice([0.0, 0.0, 0.01]),
            "maximize": chance.random() < 0.2,
        }

    def new_param(self) -> Tensor:
        chance = self.chance
        shape = chance.choice(SHAPES)
        dtype = chance.choice([torch.float32] * 6 + [torch.float64, torch.complex64])
        x = torch.randn(shape, dtype=dtype)
        kind = chance.choice(["plain"] * 4 + ["permuted", "named", "leaf", "tagged", "part"])
        if kind == "permuted" and len(shape) > 1:
            x = x.transpose(0, -1).contiguous().transpose(0, -1)
        if kind == "part":
            x = torch.randn(x.numel() + 3, dtype=dtype)[3:].view(shape)
        if kind == "named":
            return Named(x)
        if kind in ("leaf", "tagged"):
            return (x.as_subclass(Tagged) if kind == "tagged" else x).requires_grad_()
        return Parameter(x)

    def groups(self, params: list[Tensor]) -> list[dict[str, Any]]:
        cut = self.chance.randrange(len(params) + 1)
        parts = [part for part in (params[:cut], params[cut:]) if part]
        return [{"params": part, "lr": self.chance.choice([0.1, 0.5])} for part in parts]

    def tell(self) -> Any:
        """All that can be seen of it; a momentum buffer of a class is told as a plain tensor."""
        momenta = [self.buffer(p) for p in self.params]
        return {
            "params": [plain(p) for p in self.params],
            "momenta": [m if m is None else plain(m) for m in momenta],
            "states": [p in self.optimizer.state for p in self.params],
            "hooks": list(self.counts),
        }

    def buffer(self, p: Tensor) -> Tensor | None:
        found: Tensor | None = None
        if p in self.optimizer.state:
            found = self.optimizer.state[p].get("momentum_buffer")
        return found

    def group_of(self, p: Tensor) -> dict[str, Any]:
        return next(g for g in self.optimizer.param_groups if any(q is p for q in g["params"]))

    # --- gradients ---

    def gradient(self, p: Tensor) -> Tensor | None:
        chance = self.chance
        g = torch.randn(p.shape, dtype=p.dtype)
        kinds = ["plain"] * 5 + ["like"] * 3 + ["none", "same", "tagged", "negated", "zeros"]
        # No sparse ones: among them torch 2.13's own class writes outside its memory, with nothing
        # of ours about. test_routing.py and tests/rows have them.
        kinds += ["transposed", "expanded", "sliced"]
        kind = chance.choice(kinds)
        group = self.group_of(p)
        if kind == "none":
            return None
        if kind == "same":
            same = p.grad is not None and p.grad.shape == p.shape and p.grad.dtype == p.dtype
            return p.grad if same else g
        if kind == "like":
            return torch.empty_like(plain(p)).copy_(g)
        if kind == "tagged":
            return g.as_subclass(Tagged)
        if kind == "negated":
            return torch._neg_view(g) if not p.is_complex() else g.conj()
        if kind == "zeros":
            return torch._efficientzerotensor(p.shape, dtype=p.dtype) if p.dim() else g
        if kind == "transposed" and p.dim() > 1:
            return g.transpose(0, 1).contiguous().transpose(0, 1)
        # How torch rounds with it depends on how its own buffer lies.
        if kind == "expanded" and p.dim() > 1 and p.is_contiguous() and group["momentum"] == 0:
            return g[:1].expand(p.shape)
        if kind == "sliced" and p.dim():
            return torch.randn([2 * n for n in p.shape], dtype=p.dtype)[
                (slice(None, None, 2),) * p.dim()
            ]
        return g

    def give_gradients(self) -> None:
        for p in self.params:
            grad = self.gradient(p)
            p.grad = grad if grad is None or type(p) is not Tagged else plain_unless_sparse(grad)

    # --- what happens to it ---

    def step(self) -> None:
        self.give_gradients()
        how = self.chance.choice(["plain"] * 12 + ["closure", "thread", "mode", "above", "twice"])
        if how == "closure":
            self.optimizer.step(lambda: torch.tensor(1.0))
        elif how == "thread":
            thread = threading.Thread(target=self.optimizer.step)
            thread.start()
            thread.join()
        elif how == "mode":
            with Looks():
                self.optimizer.step()
        elif how == "above":
            with LooksAbove():
                self.optimizer.step()
        else:
            for _ in range(2 if how == "twice" else 1):
                self.optimizer.step()

    def edit_state(self) -> None:
        chance, state = self.chance, self.optimizer.state
        held = [p for p in self.params if isinstance(self.buffer(p), Tensor)]
        p = chance.choice(held) if held else None
        edits: dict[str, Callable[[Any, Any], Any]] = {
            "clear": lambda *_: state.clear(),
            "replace state": lambda *_: setattr(self.optimizer, "state", defaultdict(dict, state)),
        }
        if p is not None:
            edits |= {
                "replace": lambda m, p: state[p].update(momentum_buffer=m.clone()),
                "other": lambda m, p: state[p].update(momentum_buffer=torch.full_like(m, 2.0)),
                "double": lambda m, p: state[p].update(momentum_buffer=widened(m)),
                "scale": lambda m, _: m.mul_(0.5),
                "none": lambda _, p: state[p].update(momentum_buffer=None),
                "pop": lambda _, p: state[p].pop("momentum_buffer"),
                "pop all": lambda _, p: state.pop(p),
                "user dict": lambda _, p: state.update({p: UserDict(dict(state[p]))}),
                "dict": lambda _, p: state.update({p: dict(state[p])}),
                "share": lambda m, _: m.share_memory_() if m.numel() else None,
                "data": lambda m, _: setattr(m, "data", m.data.clone()),
                "set": lambda m, _: m.set_(m.clone()),
                "key": lambda _, p: state[p].update(mine=1),
                "order": lambda _, p: state.update({p: state.pop(p)}),
                "flip": lambda m, _: (
                    m.transpose_(0, 1) if m.dim() == 2 and m.size(0) == m.size(1) else m
                ),
            }
            edits |= {"exchange data": self.exchange, "swap": self.swap, "exchange": self.slots}
        with torch.no_grad():
            edits[chance.choice(sorted(edits))](None if p is None else self.buffer(p), p)

    def twins(self, p: Tensor) -> list[Tensor]:
        """Parameters whose momentum could be that of `p`."""
        mine = self.buffer(p)
        assert mine is not None
        return [
            q
            for q in self.params
            if q is not p
            and (m := self.buffer(q)) is not None
            and (m.shape, m.dtype, type(m)) == (mine.shape, mine.dtype, type(mine))
        ]

    def exchange(self, m: Any, p: Any) -> None:
        for q in self.twins(p)[:1]:
            other: Any = self.buffer(q)
            m.data, other.data = other.data, m.data

    def swap(self, m: Any, p: Any) -> None:
        for q in self.twins(p)[:1]:
            other: Any = self.buffer(q)
            torch.utils.swap_tensors(m, other)

    def slots(self, m: Any, p: Any) -> None:
        state = self.optimizer.state
        for q in self.twins(p)[:1]:
            state[p]["momentum_buffer"], state[q]["momentum_buffer"] = self.buffer(q), m

    def edit_params(self) -> None:
        chance = self.chance
        p = chance.choice(self.params)
        kind = chance.choice(["data", "all", "exchange", "flip", "double", "float"])
        with torch.no_grad():
            if kind == "data":
                p.data = p.data.clone()
            elif kind == "all":
                for q in self.params:
                    q.data = q.data.clone()
            elif kind == "exchange":
                like = [q for q in self.params if q is not p and same_kind(p, q)]
                for q in like[:1]:
                    p.data, q.data = q.data, p.data
            elif kind == "flip" and p.dim() == 2 and p.size(0) == p.size(1):
                p.data = p.data.t().contiguous().t()
            elif kind in ("double", "float"):
                for q in self.params:
                    q.grad = None
                    if not q.is_complex():
                        q.data = q.data.double() if kind == "double" else q.data.float()

    def edit_groups(self) -> None:
        chance, optimizer = self.chance, self.optimizer
        group = chance.choice(optimizer.param_groups)
        kind = chance.choice(["lr", "tensor", "momentum", "maximize", "add", "tuple", "groups"])
        if kind == "lr":
            group["lr"] = chance.choice([0.01, 0.2])
        elif kind == "tensor":
            group["lr"] = torch.tensor(chance.choice([0.01, 0.2]))
        elif kind == "momentum":
            group["momentum"], group["nesterov"] = chance.choice([0.0, 0.9]), False
        elif kind == "maximize":
            group["maximize"] = not group["maximize"]
        elif kind == "add" and isinstance(optimizer.param_groups, list) and len(self.params) < 8:
            self.params.append(new := self.new_param())
            optimizer.add_param_group({"params": [new], "weight_decay": 0.0})
        elif kind == "tuple":
            group["params"] = chance.choice([tuple, list])(group["params"])
        elif kind == "groups":
            optimizer.param_groups = chance.choice([tuple, list])(optimizer.param_groups)

    def copy(self) -> None:
        kind = self.chance.choice(["save", "load", "reload", "deepcopy", "pickle", "copy"])
        optimizer = self.optimizer
        usual = isinstance(optimizer.param_groups, list) and all(
            isinstance(slots, dict) for slots in optimizer.state.values()
        )
        slots = optimizer.state.values() if usual else []
        kept = (value for named in slots for value in named.values())
        zeros = any(p.grad is not None and p.grad._is_zerotensor() for p in self.params)
        things = (*self.params, *kept, *(p.grad for p in self.params))
        if any(type(tensor) is Tagged for tensor in things) or zeros or not usual:
            return  # torch itself neither copies nor loads these
        if kind == "save":
            self.saved = (len(self.params), copy.deepcopy(self.optimizer.state_dict()))
        elif kind == "load" and self.saved is not None and self.saved[0] == len(self.params):
            self.optimizer.load_state_dict(copy.deepcopy(self.saved[1]))
        elif kind == "reload":
            self.optimizer.load_state_dict(self.optimizer.state_dict())
        elif kind == "deepcopy":
            self.params, self.optimizer = copy.deepcopy((self.params, self.optimizer))
        elif kind == "pickle":
            for p in self.params:
                p.grad = None
            self.params, self.optimizer = pickle.loads(pickle.dumps((self.params, self.optimizer)))
        elif kind == "copy":
            self.optimizer = copy.copy(self.optimizer)

    def hook(self) -> None:
        optimizer, counts = self.optimizer, self.counts
        handles = [
            optimizer.register_step_pre_hook(lambda *_: counts.__setitem__(0, counts[0] + 1)),
            optimizer.register_step_post_hook(lambda *_: counts.__setitem__(1, counts[1] + 1)),
        ]
        self.step()
        for handle in handles:
            handle.remove()

    def zero(self) -> None:
        usual = all(p.grad is None or writable(p.grad) for p in self.params)
        self.optimizer.zero_grad(set_to_none=self.chance.random() < 0.7 or not usual)

    def events(self) -> Iterator[str]:
        """The life, told after each event by its name."""
        often = ["step"] * 9
        rest = ["edit_state"] * 3 + ["edit_params", "edit_groups", "copy", "hook", "zero"]
        for _ in range(self.chance.randrange(6, 20)):
            name = self.chance.choice(often + rest)
            getattr(self, name)()
            yield name


def plain_unless_sparse(grad: Tensor) -> Tensor:
    return grad if grad.is_sparse else grad.as_subclass(torch.Tensor)


def writable(grad: Tensor) -> bool:
    return grad.is_sparse or not (grad._is_zerotensor() or 0 in grad.stride())


def widened(m: Tensor) -> Tensor:
    return m.double() if m.dtype == torch.float32 else m.clone()


def same_kind(p: Tensor, q: Tensor) -> bool:
    return (p.shape, p.dtype, type(p)) == (q.shape, q.dtype, type(q))
