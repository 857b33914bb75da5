"""`subgrad_fast.optim.clip_grad_norm_` and the others as drop-ins for `torch.nn.utils`."""

from __future__ import annotations

import inspect
import math
import warnings
from collections.abc import Callable
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from subgrad_fast import _core, optim  # noqa: E402
from tests.cases import DTYPES  # noqa: E402

NAMES = ["clip_grad_norm_", "clip_grad_value_", "clip_grads_with_norm_", "get_total_norm"]
SHAPES = [(40,), (3, 5), (), (0,), (7, 1, 2), (4097,)]


def params(*dtypes: str, seed: int = 0, scale: float = 1.0) -> list[Any]:
    """Parameters of all shapes and of these dtypes, each with a gradient."""
    generator = torch.Generator().manual_seed(seed)
    made = []
    for dtype in dtypes:
        for shape in SHAPES:
            p = torch.nn.Parameter(torch.zeros(shape, dtype=getattr(torch, dtype)))
            p.grad = (torch.randn(shape, generator=generator) * scale).to(p.dtype)
            made.append(p)
    return made


def grads(params: list[Any]) -> list[Any]:
    return [p.grad.clone() for p in params if p.grad is not None]


def same(a: list[Any], b: list[Any]) -> bool:
    return len(a) == len(b) and all(
        x.dtype == y.dtype and torch.equal(x.nan_to_num(7e4), y.nan_to_num(7e4))
        for x, y in zip(a, b, strict=True)
    )


@pytest.fixture
def no_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch's own code raises: what runs is ours."""

    def never(*args: object, **kwargs: object) -> None:
        raise AssertionError("torch's own code was called")

    for name in NAMES:
        monkeypatch.setattr(torch.nn.utils, name, never)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of torch's functions that were called."""
    seen: list[str] = []

    def watched(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            seen.append(name)
            return function(*args, **kwargs)

        return call

    for name in NAMES:
        monkeypatch.setattr(torch.nn.utils, name, watched(name, getattr(torch.nn.utils, name)))
    return seen


@pytest.mark.parametrize("name", NAMES)
def test_signatures_are_torchs(name: str) -> None:
    def parameters(function: Any) -> list[tuple[str, Any, Any]]:
        found = inspect.signature(function).parameters.values()
        return [(p.name, p.kind, p.default) for p in found]

    assert parameters(getattr(optim, name)) == parameters(getattr(torch.nn.utils, name))


@pytest.mark.parametrize("norm_type", [2, 2.0, math.inf, "inf"])
@pytest.mark.parametrize(
    "dtypes", [(t,) for t in DTYPES] + [("float16", "bfloat16"), tuple(DTYPES)]
)
@pytest.mark.parametrize("bound", [0.5, 1e9, math.inf])
@pytest.mark.usefixtures("no_torch")
def test_norms_are_torchs(dtypes: tuple[str, ...], norm_type: Any, bound: float) -> None:
    ours = params(*dtypes)
    wide = [g.double() for g in grads(ours)]
    exact = torch.linalg.vector_norm(torch.cat([g.flatten() for g in wide]), float(norm_type))
    total = optim.get_total_norm([p.grad for p in ours], norm_type)
    got = optim.clip_grad_norm_(ours, bound, norm_type)
    assert torch.equal(got, total)
    want = torch.stack([torch.zeros((), dtype=getattr(torch, t)) for t in dtypes])
    assert got.dtype == want.dtype
    assert got.shape == () and not got.requires_grad and got.device.type == "cpu"
    torch.testing.assert_close(got, exact.to(got.dtype), rtol=1e-12, atol=0.0)


@pytest.mark.parametrize("norm_type", [2.0, math.inf])
@pytest.mark.parametrize("dtypes", [("float32",), ("float64",), ("float32", "float64")])
def test_gradients_have_torchs_bits_for_the_same_norm(
    dtypes: tuple[str, ...], norm_type: float
) -> None:
    for seed in range(20):
        ours, theirs = params(*dtypes, seed=seed), params(*dtypes, seed=seed)
        if len(dtypes) > 1:  # torch multiplies a float32 number by a float64 one in float64
            ours, theirs = ([p for p in each if p.dim()] for each in (ours, theirs))
        norm = optim.clip_grad_norm_(ours, 0.5, norm_type)
        torch.nn.utils.clip_grads_with_norm_(theirs, 0.5, norm)
        assert same(grads(ours), grads(theirs))


def test_the_whole_function_has_torchs_bits() -> None:
    """Where torch's norm is the same, which it is not for every seed."""
    compared = 0
    for seed in range(20):
        ours, theirs = params("float32", seed=seed), params("float32", seed=seed)
        got = optim.clip_grad_norm_(ours, 0.5)
        want = torch.nn.utils.clip_grad_norm_(theirs, 0.5)
        torch.testing.assert_close(got, want)
        if torch.equal(got, want):
            compared += 1
            assert same(grads(ours), grads(theirs))
    assert compared > 3


@pytest.mark.parametrize("dtype", DTYPES)
def test_given_a_norm_the_bits_are_torchs(dtype: str) -> None:
    for wide in {dtype, "float32", "float64"}:
        for norm in (3.7, 0.01, math.inf, math.nan):
            total = torch.tensor(norm, dtype=getattr(torch, wide))
            ours, theirs = params(dtype), params(dtype)
            assert optim.clip_grads_with_norm_(ours, 1.5, total) is None
            torch.nn.utils.clip_grads_with_norm_(theirs, 1.5, total)
            assert same(grads(ours), grads(theirs)), (wide, norm)


@pytest.mark.parametrize("dtype", DTYPES)
def test_values_have_torchs_bits(dtype: str) -> None:
    for limit in (0.7, 0.1, 2, math.inf, 1e300, -0.5):
        ours, theirs = params(dtype), params(dtype)
        for each in (ours, theirs):
            each[0].grad[:3] = torch.tensor([math.nan, math.inf, -math.inf])
        if limit == 1e300 and dtype != "float64":
            continue  # torch refuses it
        assert optim.clip_grad_value_(ours, limit) is None
        torch.nn.utils.clip_grad_value_(theirs, limit)
        assert same(grads(ours), grads(theirs)), limit


def test_16_bit_gradients_are_scaled_in_float32() -> None:
    for dtype in ("float16", "bfloat16"):
        ours = params(dtype, scale=3.0)
        wide = [g.float() for g in grads(ours)]
        norm = torch.linalg.vector_norm(torch.cat([g.flatten() for g in wide]).double()).float()
        c = torch.clamp(0.5 / (norm + 1e-6), max=1.0)
        optim.clip_grad_norm_(ours, 0.5)
        assert same(grads(ours), [(g * c).to(getattr(torch, dtype)) for g in wide])


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("bound", [0.5, math.inf])
def test_a_norm_that_is_not_finite(bad: float, bound: float) -> None:
    ours, theirs = params("float32"), params("float32")
    for each in (ours, theirs):
        each[1].grad[0, 0] = bad
    before = grads(ours)
    text = "The total norm of order 2.0 for gradients from `parameters` is non-finite"
    with pytest.raises(RuntimeError, match=text):
        optim.clip_grad_norm_(ours, bound, error_if_nonfinite=True)
    with pytest.raises(RuntimeError, match=text):
        optim.get_total_norm([p.grad for p in ours], error_if_nonfinite=True)
    assert same(grads(ours), before)
    got = optim.clip_grad_norm_(ours, bound)
    want = torch.nn.utils.clip_grad_norm_(theirs, bound)
    torch.testing.assert_close(got, want, equal_nan=True)
    assert same(grads(ours), grads(theirs))


def test_a_norm_beyond_its_dtype_is_not_finite() -> None:
    p = torch.nn.Parameter(torch.zeros(10))
    p.grad = torch.full((10,), 3e38)
    with pytest.raises(RuntimeError, match="is non-finite"):
        optim.clip_grad_norm_(p, 1.0, error_if_nonfinite=True)
    assert (p.grad == 3e38).all()
    half = torch.nn.Parameter(torch.zeros(4, dtype=torch.float16))
    half.grad = torch.full((4,), 40000.0, dtype=torch.float16)
    with pytest.raises(RuntimeError, match="is non-finite"):
        optim.clip_grad_norm_(half, 1.0, error_if_nonfinite=True)
    assert optim.clip_grad_norm_(half, 1.0) == math.inf
    assert (half.grad == 0.5).all()  # the norm itself is 80000


@pytest.mark.usefixtures("no_torch")
def test_any_iterable_of_parameters() -> None:
    made = params("float32")
    made[2].grad = None
    norm = optim.get_total_norm([p.grad for p in made if p.grad is not None])
    for given in (made, tuple(made), iter(made), (p for p in made), dict.fromkeys(made)):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert optim.clip_grad_norm_(given, 1e9) == norm
    assert optim.clip_grad_norm_(made[0], 1e9) == made[0].grad.norm()
    optim.clip_grad_value_((p for p in made), 0.25)
    assert all((p.grad.abs() <= 0.25).all() for p in made if p.grad is not None)
    optim.clip_grads_with_norm_((p for p in made), 1.0, torch.tensor(1e3))
    assert all((p.grad.abs() <= 0.25e-3).all() for p in made if p.grad is not None)
    assert made[2].grad is None


def test_the_largest_element_of_an_empty_gradient() -> None:
    """torch refuses what it calls the norm of nothing."""
    p = torch.nn.Parameter(torch.zeros(0))
    p.grad = torch.zeros(0)
    assert optim.clip_grad_norm_([p], 1.0, math.inf) == 0


def test_nothing_to_clip() -> None:
    without = torch.nn.Parameter(torch.zeros(3))
    for given in ([], [without], without):
        got, want = optim.clip_grad_norm_(given, 1.0), torch.nn.utils.clip_grad_norm_(given, 1.0)
        assert torch.equal(got, want) and got.dtype == want.dtype
        optim.clip_grads_with_norm_(given, 1.0, torch.tensor(3.0))
        optim.clip_grad_value_(given, 1.0)
    assert torch.equal(optim.get_total_norm([]), torch.tensor(0.0))
    with pytest.warns(UserWarning, match="is an empty generator") as seen:
        optim.clip_grad_norm_((p for p in []), 1.0)
    assert seen[0].filename == __file__


def test_gradients_within_the_bound_are_not_written() -> None:
    made = params("float32")
    versions = [p.grad._version for p in made]
    optim.clip_grad_norm_(made, 1e9)
    optim.clip_grad_value_(made, math.inf)
    assert [p.grad._version for p in made] == versions
    optim.clip_grad_norm_(made, 1e-3)
    assert [p.grad._version for p in made] == [v + 1 for v in versions]


def test_the_default_device_does_not_matter() -> None:
    made = params("float32")
    want = optim.clip_grad_norm_(made, 1e9)
    with torch.device("meta"):
        assert torch.equal(optim.clip_grad_norm_(made, 1e9), want)


def test_layouts(calls: list[str]) -> None:
    p = torch.nn.Parameter(torch.zeros(6, 5))
    base = torch.randn(12, 10)
    for grad in (base[::2, ::2], base.t()[:6, :5], base[:6, :5]):
        want = grad.double()
        p.grad = grad
        norm = optim.clip_grad_norm_(p, 0.5)
        assert norm == want.norm().float()
        c = torch.clamp(0.5 / (norm + 1e-6), max=1.0)
        assert torch.equal(grad, want.float() * c)
    assert calls == []


class Tagged(torch.Tensor):
    """A subclass, of which nothing is known."""


def others() -> dict[str, list[Any]]:
    """Gradients that are for torch's own code."""
    dense = torch.randn(4, 3, generator=torch.Generator().manual_seed(1))

    def with_grad(grad: Any) -> Any:
        p = torch.nn.Parameter(torch.zeros(grad.shape, dtype=grad.dtype))
        p.grad = grad
        return p

    twice = with_grad(dense.clone())
    return {
        "complex": [with_grad(torch.complex(dense, dense))],
        "subclass": [with_grad(dense.clone()), with_grad(dense.clone().as_subclass(Tagged))],
        "twice": [twice, twice],
        "negated": [with_grad(torch.complex(dense, dense).conj().imag)],
    }


@pytest.mark.parametrize("kind", others())
def test_what_is_not_covered_is_torchs(calls: list[str], kind: str) -> None:
    for bound in (0.5, 1e9):
        ours, theirs = others()[kind], others()[kind]
        got = outcome(optim.clip_grad_norm_, ours, bound)
        want = outcome(torch.nn.utils.clip_grad_norm_, theirs, bound)
        assert type(got) is type(want)
        if isinstance(got, torch.Tensor):
            torch.testing.assert_close(got, want)
        assert all(torch.equal(a, b) for a, b in zip(grads(ours), grads(theirs), strict=True))
    assert "clip_grad_norm_" in calls
    ours, theirs = others()[kind], others()[kind]
    got = outcome(optim.clip_grad_value_, ours, 0.3)
    want = outcome(torch.nn.utils.clip_grad_value_, theirs, 0.3)
    assert type(got) is type(want)
    assert all(torch.equal(a, b) for a, b in zip(grads(ours), grads(theirs), strict=True))


def outcome(function: Callable[..., Any], *arguments: Any) -> Any:
    """What it returns or raises: torch refuses some of these gradients, too."""
    try:
        return function(*arguments)
    except Exception as error:
        return error


def test_sparse_gradients_are_torchs(calls: list[str]) -> None:
    p = torch.nn.Parameter(torch.zeros(4, 3))
    p.grad = torch.sparse_coo_tensor([[0, 2]], torch.ones(2, 3), (4, 3), check_invariants=True)
    got = outcome(optim.clip_grad_norm_, [p], 1.0)
    assert calls == ["clip_grad_norm_"]
    assert type(got) is type(outcome(torch.nn.utils.clip_grad_norm_, [p], 1.0))


@pytest.mark.parametrize("norm_type", [1, 3.0, 0, -math.inf])
def test_other_norms_are_torchs(calls: list[str], norm_type: float) -> None:
    ours, theirs = params("float32")[:3], params("float32")[:3]
    got = optim.clip_grad_norm_(ours, 0.5, norm_type)
    assert calls == ["clip_grad_norm_"]
    assert torch.equal(got, torch.nn.utils.clip_grad_norm_(theirs, 0.5, norm_type))
    assert same(grads(ours), grads(theirs))


@pytest.mark.parametrize("foreach", [True, False])
def test_foreach_is_torchs(calls: list[str], foreach: bool) -> None:
    made = params("float32")
    tensors = [p.grad for p in made]
    optim.clip_grad_norm_(made, 0.5, foreach=foreach)
    optim.get_total_norm(tensors, foreach=foreach)
    optim.clip_grad_value_(made, 0.5, foreach=foreach)
    optim.clip_grads_with_norm_(made, 0.5, torch.tensor(1.0), foreach=foreach)
    assert set(calls) == set(NAMES)


def test_bad_arguments_are_named_where_torch_raises_too() -> None:
    made = params("float32")
    before = grads(made)
    for arguments, words in (
        ((made, "x"), "max_norm: expected a number, got str"),
        ((made, None), "max_norm: expected a number, got NoneType"),
        ((made, 1.0, "x"), "norm_type: expected a number, got str"),
        ((3, 1.0), "parameters: expected a tensor or an iterable of tensors, got int"),
        (([3], 1.0), r"parameters\[0\]: expected a tensor, got int"),
        (([made[0], 3], 1.0, 3.0), r"parameters\[1\]: expected a tensor, got int"),
    ):
        with pytest.raises((TypeError, ValueError, AttributeError)):
            torch.nn.utils.clip_grad_norm_(*arguments)
        with pytest.raises(TypeError, match=f"^{words}"):
            optim.clip_grad_norm_(*arguments)
    assert same(grads(made), before)


def test_infinity_by_its_name_as_in_torch() -> None:
    # torch knows no largest element of none.
    ours, theirs = ([p for p in params("float32") if p.numel() > 0] for _ in range(2))
    got = optim.clip_grad_norm_(ours, 0.5, "inf")
    assert torch.equal(got, torch.nn.utils.clip_grad_norm_(theirs, 0.5, "inf"))
    assert same(grads(ours), grads(theirs))


def test_freed_memory_is_refused() -> None:
    made = params("float32")
    made[1].grad.untyped_storage().resize_(0)
    with pytest.raises(ValueError, match=r"grads\[1\]: has no memory"):
        optim.clip_grad_norm_(made, 0.5)
    with pytest.raises(ValueError, match=r"grads\[1\]: has no memory"):
        optim.get_total_norm([p.grad for p in made])


def test_without_the_exchange_table_torch_does_it(calls: list[str]) -> None:
    ours, theirs = params("float32"), params("float32")
    old = _core.testing.use_exchange_api(False)
    try:
        got = optim.clip_grad_norm_(ours, 0.5)
    finally:
        _core.testing.use_exchange_api(old)
    assert calls == ["clip_grad_norm_"]
    assert torch.equal(got, torch.nn.utils.clip_grad_norm_(theirs, 0.5))
    assert same(grads(ours), grads(theirs))


def test_a_graph_behind_a_gradient() -> None:
    x = torch.nn.Parameter(torch.tensor([3.0, 4.0]))
    (g,) = torch.autograd.grad((x**3).sum(), x, create_graph=True)
    x.grad = g
    norm = optim.clip_grad_norm_(x, 1.0)
    assert not norm.requires_grad
    assert math.isclose(float(x.grad.detach().norm()), 1.0, rel_tol=1e-6)


def test_the_functions_are_found() -> None:
    assert set(NAMES) <= set(optim.__all__)
