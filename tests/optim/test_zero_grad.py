"""optim.SGD.zero_grad beside torch's: gradients, their versions, what autograd knows of them."""

# ruff: noqa: E402
from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import pytest

torch = pytest.importorskip("torch")  # what needs it is imported below

from torch.nn import Parameter

from subgrad_fast.optim import SGD, sgd
from tests.optim.torch_twins import Scenario, assert_twins, give_gradients, parameters, strided
from tests.threads import run_threads

pytestmark = pytest.mark.torch


@pytest.fixture
def torchs(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The gradients that ours left to torch, and "all" for a call of torch's `zero_grad`."""
    left: list[Any] = []
    with_torch, zero_grad = sgd.zero_with_torch, torch.optim.Optimizer.zero_grad

    def some(optimizer: Any, grads: list[torch.Tensor]) -> None:
        left.extend(grads)
        with_torch(optimizer, grads)

    def all_of_them(self: Any, set_to_none: bool = True) -> None:
        if isinstance(self, SGD):
            left.append("all")
        zero_grad(self, set_to_none)

    monkeypatch.setattr(sgd, "zero_with_torch", some)
    monkeypatch.setattr(torch.optim.Optimizer, "zero_grad", all_of_them)
    return left


def seen(params: list[Any]) -> list[Any]:
    """What can be seen of the gradients: themselves, versions, and what autograd knows."""
    return [
        None
        if p.grad is None
        else [p.grad, p.grad._version, p.grad.requires_grad, type(p.grad.grad_fn).__name__]
        for p in params
    ]


def zeroed(give: Callable[[], list[Any]], set_to_none: bool, **kwargs: Any) -> Scenario:
    """Parameters with gradients, whose optimizer forgets them twice, a step before and after."""

    def scenario(cls: type[torch.optim.SGD]) -> Iterator[Any]:
        params = give()
        optimizer = cls(params, lr=0.1, momentum=0.9, **kwargs)
        grads = [p.grad for p in params]
        yield seen(params)
        optimizer.zero_grad(set_to_none)
        yield seen(params)
        yield [[p.grad is g for p in params] for g in grads]
        yield [None if g is None else [g, g._version] for g in grads]
        optimizer.zero_grad(set_to_none=set_to_none)
        yield seen(params)

    return scenario


# --- gradients of every kind ---------------------------------------------------------------------


def plain() -> list[Any]:
    shapes = [(), (0,), (1,), (7,), (3, 5), (300, 300)]
    dtypes = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
    params = [p for dtype in dtypes for p in parameters(*shapes, dtype=dtype)]
    give_gradients(params)
    return params


def some_none() -> list[Any]:
    params = plain()
    for p in params[::2]:
        p.grad = None
    return params


def frozen() -> list[Any]:
    params = plain()
    for p in params[::3]:
        p.grad = None
    for p in params[::2]:
        p.requires_grad_(False)
    return params


def ordered(kind: str) -> list[Any]:
    p = Parameter(torch.randn(2, 3, 4, 5))
    p.grad = strided(kind, (2, 3, 4, 5), torch.float32)
    return [p]


def shared() -> list[Any]:
    """One gradient of two parameters, and gradients that are parts of one tensor, some twice."""
    params = parameters((40,), (40,), (8,), (8,), (8,))
    flat = torch.randn(100)
    params[0].grad = params[1].grad = torch.randn(40)
    for p, start in zip(params[2:], (0, 4, 50), strict=True):
        p.grad = flat[start : start + 8]
    return params


def with_graph() -> list[Any]:
    """Gradients that have a graph behind them, one that wants a gradient, and a plain one."""
    params = parameters((5,), (6,), (7,), (8,))
    (params[0].pow(3).sum() * params[1].pow(2).sum()).backward(create_graph=True)
    params[2].grad = torch.randn(7, requires_grad=True)
    params[3].grad = torch.randn(8)
    return params


def sparse() -> list[Any]:
    table = torch.nn.Embedding(9, 4, sparse=True)
    table(torch.tensor([1, 1, 5])).sum().backward()
    dense = Parameter(torch.randn(6))
    give_gradients([dense])
    return [table.weight, dense]


def other_dtypes() -> list[Any]:
    params = parameters((6,), (6,), dtype=torch.complex64) + parameters((6,))
    give_gradients(params)
    params[1].grad = params[1].grad.conj()
    params[2].grad = torch.randn(6, dtype=torch.complex64).conj().imag
    return params


class Tagged(torch.Tensor):
    """A subclass that does nothing of its own."""


def subclasses() -> list[Any]:
    params = [Parameter(torch.randn(6).as_subclass(Tagged)), *parameters((6,), (7,))]
    give_gradients(params)
    params[2].grad = torch.randn(7).as_subclass(Tagged)
    return params


EVERY = {
    "plain": (plain, 0),
    "some are None": (some_none, 0),
    "frozen": (frozen, 0),
    "channels last": (lambda: ordered("channels last"), 0),
    "transposed": (lambda: ordered("transposed"), 0),
    "part": (lambda: ordered("part"), 0),
    "sliced": (lambda: ordered("sliced"), 1),
    "shared": (shared, 0),
    "with a graph": (with_graph, 3),
    "sparse": (sparse, 1),
    "other dtypes": (other_dtypes, 3),
    "subclasses": (subclasses, 2),
}
"""By name: what makes the parameters, and how many gradients torch is left to make zeros."""


@pytest.mark.filterwarnings("ignore:Using backward")
@pytest.mark.parametrize("kwargs", [{}, {"foreach": True}, {"fused": True}], ids=str)
@pytest.mark.parametrize("name", EVERY)
def test_zeros(name: str, kwargs: dict[str, Any], torchs: list[Any]) -> None:
    give, left = EVERY[name]
    if kwargs and name == "other dtypes":
        pytest.skip("torch refuses them")
    assert_twins(zeroed(give, False, **kwargs), routed=None)
    # Once detached, a gradient is like any other.
    assert len(torchs) == (left if name == "with a graph" else 2 * left)


@pytest.mark.filterwarnings("ignore:Using backward")
@pytest.mark.parametrize("kwargs", [{}, {"foreach": True}], ids=str)
@pytest.mark.parametrize("name", EVERY)
def test_none(name: str, kwargs: dict[str, Any], torchs: list[Any]) -> None:
    assert_twins(zeroed(EVERY[name][0], True, **kwargs), routed=None)
    assert torchs == []


def test_the_comparison_sees_a_version_too_many() -> None:
    def scenario(cls: type) -> Iterator[Any]:
        params = plain()
        cls(params, lr=0.1).zero_grad(set_to_none=False)
        if cls is SGD:
            params[3].grad.mul_(1)
        yield seen(params)

    with pytest.raises(AssertionError, match="got 2, want 1"):
        assert_twins(scenario, routed=None)


def test_what_torch_refuses_is_refused() -> None:
    params = parameters((6,), (6,))
    give_gradients(params)
    with torch.inference_mode():
        params[1].grad = torch.ones(6)
    for cls in (torch.optim.SGD, SGD):
        with pytest.raises(RuntimeError, match="inference"):
            cls(params, lr=0.1).zero_grad(set_to_none=False)


@pytest.mark.parametrize("threads", [1, 2])
def test_many_gradients_that_share_memory_on_threads(threads: int) -> None:
    flat = torch.ones(1_000_000)
    params = parameters(*[(150_000,)] * 8)
    for i, p in enumerate(params):
        p.grad = flat[i * 100_000 : i * 100_000 + 150_000]
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        SGD(params, lr=0.1).zero_grad(set_to_none=False)
    finally:
        torch.set_num_threads(before)
    assert not flat[:850_000].any()
    assert flat[850_000:].all()


# --- parameters and groups of every kind ---------------------------------------------------------


class WithGrad(Parameter):
    """A parameter whose `grad` is its own."""

    log: ClassVar[list[Any]] = []

    @property
    def grad(self) -> Any:
        self.log.append("get")
        return self.__dict__.get("mine")

    @grad.setter
    def grad(self, value: Any) -> None:
        self.log.append(value)
        self.__dict__["mine"] = value


class WithSetattr(Parameter):
    """A parameter that is told when an attribute of it is set."""

    log: ClassVar[list[Any]] = []

    def __setattr__(self, name: str, value: Any) -> None:
        self.log.append((name, value is None))
        super().__setattr__(name, value)


class WithFunction(torch.Tensor):
    """A tensor that is told of every function that is called on it."""

    log: ClassVar[list[Any]] = []

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        cls.log.append(getattr(func, "__name__", str(func)))
        return super().__torch_function__(func, types, args, kwargs or {})


@pytest.mark.parametrize("kind", [WithGrad, WithSetattr, WithFunction])
def test_a_parameters_own_code_is_called_as_often_as_by_torch(kind: Any) -> None:
    def scenario(cls: type) -> Iterator[Any]:
        params = [torch.zeros(3).as_subclass(kind).requires_grad_() for _ in range(2)]
        params[0].grad = torch.ones(3)
        optimizer = cls(params, lr=0.1)
        kind.log.clear()
        optimizer.zero_grad()
        assert kind.log
        yield kind.log
        yield [p.grad is None for p in params]

    assert_twins(scenario, routed=None)


def test_what_a_parameters_code_raises_is_raised() -> None:
    class Raises(Parameter):
        @property
        def grad(self) -> Any:
            raise KeyError("mine")

    (p,) = parameters((3,))
    give_gradients([p])
    optimizer = SGD([{"params": [p]}, {"params": [torch.zeros(3).as_subclass(Raises)]}], lr=0.1)
    with pytest.raises(KeyError, match="mine"):
        optimizer.zero_grad()
    assert p.grad is None


@pytest.mark.parametrize("set_to_none", [False, True])
def test_groups_as_they_are_now(set_to_none: bool) -> None:
    def scenario(cls: type) -> Iterator[Any]:
        a, b, c, d = params = parameters((3,), (4,), (5,), (6,))
        optimizer = cls([{"params": [a]}, {"params": [b]}], lr=0.1, momentum=0.9)
        give_gradients(params)
        optimizer.step()
        optimizer.add_param_group({"params": [c]})
        optimizer.zero_grad(set_to_none)
        yield seen(params)
        give_gradients(params)
        optimizer.param_groups[0]["params"] = (d, a)  # not a list, and one in two groups
        optimizer.param_groups[1]["params"].append(a)
        optimizer.zero_grad(set_to_none)
        yield seen(params)
        give_gradients(params)
        optimizer.param_groups[0]["params"] = {a: None}.keys()
        del optimizer.param_groups[1]["params"][:]
        optimizer.zero_grad(set_to_none)
        yield seen(params)
        optimizer.param_groups = []
        optimizer.zero_grad(set_to_none)
        yield seen(params)

    assert_twins(scenario, routed=None)


def test_a_group_without_params_raises_what_torch_raises() -> None:
    for cls in (torch.optim.SGD, SGD):
        optimizer = cls(parameters((3,)), lr=0.1)
        del optimizer.param_groups[0]["params"]
        with pytest.raises(KeyError, match="params"):
            optimizer.zero_grad()


def test_two_optimizers_of_one_parameter() -> None:
    params = parameters((3,), (4,))
    ours, theirs = SGD(params, lr=0.1, momentum=0.9), torch.optim.SGD(params[:1], lr=0.1)
    for first, second in ((ours, theirs), (theirs, ours)):
        give_gradients(params)
        first.step()
        first.zero_grad()
        second.zero_grad()
        assert params[0].grad is None


def test_an_override_is_called_and_may_call_ours() -> None:
    class Counts(SGD):
        calls = 0

        def zero_grad(self, set_to_none: bool = True) -> None:
            self.calls += 1
            super().zero_grad(set_to_none)

    params = parameters((3,))
    give_gradients(params)
    optimizer = Counts(params, lr=0.1)
    optimizer.zero_grad(set_to_none=False)
    assert not params[0].grad.any()
    optimizer.zero_grad()
    assert (optimizer.calls, params[0].grad) == (2, None)


# --- what lives on -------------------------------------------------------------------------------


def test_gradients_are_let_go_and_no_others() -> None:
    params = parameters((300,), (7,))
    optimizer = SGD(params, lr=0.1, momentum=0.9)
    for _ in range(3):
        give_gradients(params)
        optimizer.step()
        kept = params[1].grad
        gone, lives = (weakref.ref(p.grad) for p in params)
        assert gone() is not None  # until it is forgotten
        optimizer.zero_grad()
        gc.collect()
        assert gone() is None
        assert lives() is kept


def test_a_finalizer_may_change_the_groups() -> None:
    params = parameters((3,), (4,), (5,))
    optimizer = SGD(params, lr=0.1)
    give_gradients(params)
    weakref.finalize(params[0].grad, optimizer.param_groups[0]["params"].clear)
    optimizer.zero_grad()
    assert [p.grad is None for p in params] == [True, False, False]


@pytest.mark.parametrize("set_to_none", [False, True])
def test_training_has_torchs_bits(set_to_none: bool) -> None:
    def scenario(cls: type) -> Iterator[Any]:
        model = torch.nn.Sequential(torch.nn.Linear(7, 9), torch.nn.ReLU(), torch.nn.Linear(9, 2))
        optimizer = cls(model.parameters(), lr=0.1, momentum=0.9)
        x, counted = torch.randn(5, 7), []
        hook = model[0].weight.register_post_accumulate_grad_hook(lambda p: counted.append(p.shape))
        for _ in range(4):
            optimizer.zero_grad(set_to_none)
            model(x).square().mean().backward()
            optimizer.step()
        hook.remove()
        yield [len(counted), optimizer]

    assert_twins(scenario)


def test_backward_finds_that_zeros_were_written() -> None:
    def scenario(cls: type) -> Iterator[Any]:
        params = parameters((4,))
        give_gradients(params)
        weight = torch.randn(4, requires_grad=True)
        loss = (weight * params[0].grad).sum()
        cls(params, lr=0.1).zero_grad(set_to_none=False)
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            loss.backward()
        yield True

    assert_twins(scenario, routed=None)


def test_the_profiler_sees_it(torchs: list[Any]) -> None:
    params = parameters((3,))
    give_gradients(params)
    optimizer = SGD(params, lr=0.1)
    record = "Optimizer.zero_grad#SGD.zero_grad"
    optimizer.zero_grad()
    assert torchs == []
    give_gradients(params)
    with torch.autograd.profiler.profile() as profile:
        optimizer.zero_grad()
    assert torchs == ["all"]
    assert [event.name for event in profile.function_events].count(record) == 1
    assert params[0].grad is None


def test_within_a_compiled_function() -> None:
    def scenario(cls: type) -> Iterator[Any]:
        params = parameters((4,))
        optimizer = cls(params, lr=0.1)

        @torch.compile(backend="eager")
        def forget_and_go_on(x: torch.Tensor) -> torch.Tensor:
            optimizer.zero_grad()
            return x.sin() + 1

        give_gradients(params)
        yield forget_and_go_on(torch.ones(3))
        yield seen(params)

    assert_twins(scenario, routed=None)


# --- threads -------------------------------------------------------------------------------------


@pytest.mark.parametrize("set_to_none", [False, True])
def test_one_thread_steps_and_another_forgets(set_to_none: bool) -> None:
    params = parameters((40_000,), (5,), (300, 300))
    optimizer = SGD(params, lr=0.0, momentum=0.9)
    give_gradients(params)
    before = [p.detach().clone() for p in params]

    def step() -> None:
        for _ in range(60):
            optimizer.step()

    def forget() -> None:
        for _ in range(60):
            optimizer.zero_grad(set_to_none)
            give_gradients(params)

    assert run_threads(step, forget, forget) == []
    assert all(torch.equal(p, b) for p, b in zip(params, before, strict=True))


def test_it_waits_for_the_turn_of_a_step() -> None:
    params = parameters((3,))
    give_gradients(params)
    optimizer = SGD(params, lr=0.1)
    seen_within = []

    def forget() -> None:
        optimizer.zero_grad()
        seen_within.append(inside)

    inside = True
    thread = threading.Thread(target=forget)
    with optimizer._turns:
        thread.start()
        thread.join(0.05)
        assert params[0].grad is not None
        optimizer.zero_grad(set_to_none=False)  # a thread in its own turn has it already
        inside = False
    thread.join()
    assert (seen_within, params[0].grad) == ([False], None)
