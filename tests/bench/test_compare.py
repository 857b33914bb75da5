"""`sf.bench.compare`: what is timed, that contenders meet the same work, and what is refused."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pytest

import subgrad_fast as sf

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.torch

from subgrad_fast import bench, optim  # noqa: E402
from subgrad_fast.bench import loop as loop_module  # noqa: E402
from subgrad_fast.data import DataLoader  # noqa: E402

LOSS = torch.nn.functional.mse_loss
SGD = torch.optim.SGD


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def network(*more: Any) -> Any:
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.ReLU(), *more, torch.nn.Linear(8, 4))


def batch(rows: int = 16) -> tuple[Any, Any]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(rows, 8, generator=generator), torch.randn(rows, 4, generator=generator)


def sgd(**kwargs: Any) -> Any:
    return lambda parameters: SGD(parameters, lr=0.1, momentum=0.9, **kwargs)


def ours(**kwargs: Any) -> Any:
    return lambda parameters: optim.SGD(parameters, lr=0.1, momentum=0.9, **kwargs)


def weights_of(report: Any, name: str) -> dict[str, Any]:
    found: dict[str, Any] = report.figures["contenders"][name]["weights"]
    return found


def parts_of(report: Any, name: str) -> list[str]:
    return [*report.figures["contenders"][name]["parts"]]


def test_torch_its_fused_form_and_ours_are_compared_unless_others_are_given() -> None:
    report = bench.compare(network(), batch(), LOSS, steps=16)
    assert [*report.figures["contenders"]] == ["torch", "torch fused", "subgrad_fast"]
    assert report.reference == "torch"
    assert (report.figures["rounds"], report.figures["block"]) == (8, 2)
    for name in report.figures["contenders"]:
        assert parts_of(report, name) == ["forward", "backward", "step", "zero_grad"]
    assert weights_of(report, "subgrad_fast") == {
        "same_batches": True,
        "same_bits": True,
        "largest_difference": 0.0,
        "promised": True,
    }
    assert not weights_of(report, "torch fused")["promised"]
    assert report.agree
    assert report.failed == {}


def test_the_model_and_the_generator_of_the_user_are_left_alone() -> None:
    model = network(torch.nn.BatchNorm1d(8), torch.nn.Dropout())
    before, state = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    bench.compare(model, batch(), LOSS, steps=2)
    assert torch.equal(torch.get_rng_state(), state)
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert all(p.grad is None for p in model.parameters())


def test_each_contender_meets_the_random_numbers_that_it_would_meet_alone() -> None:
    def last_loss(optimizers: dict[str, Any]) -> Any:
        report = bench.compare(network(torch.nn.Dropout()), batch(), LOSS, optimizers=optimizers)
        assert report.agree
        return [c["loss"] for c in report.figures["contenders"].values()]

    alone = last_loss({"torch": sgd()})
    assert last_loss({"torch": sgd(), "again": sgd(), "ours": ours()}) == alone * 3


def test_a_function_makes_the_model_with_the_same_weights_for_all() -> None:
    def make() -> Any:
        return torch.nn.Linear(8, 4)

    report = bench.compare(make, batch(), LOSS, steps=3)
    assert weights_of(report, "subgrad_fast")["same_bits"]


def test_what_an_iteration_costs_is_split_into_its_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a clock that only the parts move."""
    now = [0]
    real = torch.nn.utils.clip_grad_norm_

    def takes(ns: int) -> None:
        now[0] += ns

    class Slow(SGD):
        def step(self, closure: Any = None) -> Any:
            takes(100)
            return super().step(closure)

        def zero_grad(self, set_to_none: bool = True) -> None:
            takes(1000)
            super().zero_grad(set_to_none)

    class Model(torch.nn.Linear):
        def forward(self, x: Any) -> Any:
            takes(10_000)
            return super().forward(x)

    class Data:
        def __iter__(self) -> Any:
            for _ in range(7):
                takes(1)
                yield batch()

    def clip(parameters: Any, max_norm: float) -> Any:
        takes(10)
        return real(parameters, max_norm)

    monkeypatch.setattr(loop_module.time, "perf_counter_ns", lambda: now[0])
    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", clip)
    report = bench.compare(
        Model(8, 4),
        Data(),
        LOSS,
        optimizers={"slow": lambda p: Slow(p, lr=0.1), "plain": lambda p: SGD(p, lr=0.1)},
        steps=20,
        max_norm=1.0,
    )
    spent = {
        name: {part: times["median_ns"] for part, times in contender["parts"].items()}
        for name, contender in report.figures["contenders"].items()
    }
    common = {"data": 1, "forward": 10_000, "backward": 0, "clip": 10}
    assert spent == {
        "slow": {**common, "step": 100, "zero_grad": 1000},
        "plain": {**common, "step": 0, "zero_grad": 0},
    }
    assert report.times_faster("plain", "between") == 1111 / 11
    assert report.times_faster("plain") == 11_111 / 10_011


def test_contenders_take_turns_and_who_begins_goes_round() -> None:
    ran: list[str] = []

    def noted(name: str) -> Any:
        class Noted(SGD):
            def step(self, closure: Any = None) -> Any:
                ran.append(name)
                return super().step(closure)

        return lambda parameters: Noted(parameters, lr=0.1)

    progress: list[tuple[int, int]] = []
    bench.compare(
        network(),
        batch(),
        LOSS,
        optimizers={name: noted(name) for name in "abc"},
        steps=3,
        progress=lambda *done: progress.append(done),
    )
    assert "".join(ran) == "aaabbbccc" + "abc" + "bca" + "cab"
    assert progress == [(1, 3), (2, 3), (3, 3)]


def test_a_shared_loader_is_gone_through_once() -> None:
    taken: list[int] = []

    class Data:
        def __iter__(self) -> Any:
            for i in range(5):
                taken.append(i)
                x, y = batch()
                yield x + i, y

    report = bench.compare(network(), Data(), LOSS, steps=8)
    assert taken == [*range(5), *range(5), 0][: 3 + 8]
    assert all(weights_of(report, name)["same_bits"] for name in ("torch fused", "subgrad_fast"))


def test_loaders_are_contenders() -> None:
    dataset = torch.utils.data.TensorDataset(*batch(64))
    plain = torch.utils.data.DataLoader(dataset, batch_size=8, shuffle=True)
    report = bench.compare(
        network(),
        plain,
        LOSS,
        optimizers={"torch": sgd(), "subgrad_fast": ours()},
        data={
            "subgrad_fast": DataLoader(dataset, batch_size=8, shuffle=True),
            "in order": lambda: DataLoader(dataset, batch_size=8),
            "one batch": batch(),
        },
        steps=24,
    )
    assert "data" in parts_of(report, "torch")
    assert "data" not in parts_of(report, "one batch")
    assert weights_of(report, "subgrad_fast")["promised"]
    assert weights_of(report, "subgrad_fast")["same_bits"]
    for name in ("in order", "one batch"):
        assert not weights_of(report, name)["same_batches"]
        assert not weights_of(report, name)["promised"]
    assert "other batches" in str(report)


def test_who_clips_in_the_step_has_no_part_of_that_name() -> None:
    report = bench.compare(network(), batch(), LOSS, steps=2, max_norm=1e-3)
    assert "clip" in parts_of(report, "torch")
    assert "clip" not in parts_of(report, "subgrad_fast")
    weights = weights_of(report, "subgrad_fast")
    assert not weights["promised"]
    assert weights["largest_difference"] < 1e-6


def test_a_bit_that_differs_breaks_the_promise(monkeypatch: pytest.MonkeyPatch) -> None:
    real = optim.SGD.step

    def flips(self: Any, *arguments: Any) -> Any:
        loss = real(self, *arguments)
        bits = self.param_groups[0]["params"][1].detach().numpy().view("u4")
        bits[2] ^= 1
        return loss

    monkeypatch.setattr(optim.SGD, "step", flips)
    report = bench.compare(network(), batch(), LOSS, steps=2)
    assert not report.agree
    assert report.broken_promises() == ["subgrad_fast"]
    assert "DIFFER, " in str(report)
    assert "which is a fault: please report it" in str(report)
    assert 0 < weights_of(report, "subgrad_fast")["largest_difference"] < 1e-4


@pytest.mark.parametrize(
    ("theirs", "mine", "promised"),
    [
        (sgd(), ours(), True),
        (ours(), sgd(), True),
        (sgd(weight_decay=0.1, nesterov=True), ours(weight_decay=0.1, nesterov=True), True),
        (sgd(), ours(weight_decay=0.1), False),
        (sgd(), ours(l1=0.1), False),
        (sgd(), ours(max_norm=1.0), False),
        (sgd(fused=True), ours(), False),
        (sgd(foreach=True), ours(), False),
        (sgd(), sgd(), False),
        (ours(), ours(), False),
        (torch.optim.Adam, ours(), False),
    ],
)
def test_what_is_promised(theirs: Any, mine: Any, promised: bool) -> None:
    optimizers = {"a": theirs, "b": mine}
    report = bench.compare(network(), batch(), LOSS, optimizers=optimizers, steps=2)
    assert weights_of(report, "b")["promised"] is promised
    assert report.agree


def test_sixteen_bits_are_not_promised() -> None:
    model = network().to(torch.bfloat16)
    x, y = batch()
    report = bench.compare(model, (x.bfloat16(), y.bfloat16()), LOSS, steps=2)
    assert not weights_of(report, "subgrad_fast")["promised"]
    assert "bfloat16[16, 8]" in str(report)


class Returns(torch.nn.Module):
    """A model whose output has the loss, as those of transformers."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.linear, self.kind = torch.nn.Linear(8, 4), kind

    def forward(self, x: Any, y: Any = None) -> Any:
        loss = self.linear(x).square().mean() if y is None else LOSS(self.linear(x), y)
        if self.kind == "object":
            return type("Output", (), {"loss": loss})()
        return {"loss": loss} if self.kind == "mapping" else loss


@pytest.mark.parametrize(
    ("model", "given", "loss"),
    [
        (network(), batch(), LOSS),
        (network(), [*batch()], LOSS),
        (network(), batch()[0], lambda output: output.square().mean()),
        (network(), batch()[:1], lambda output: output.square().mean()),
        (Returns("tensor"), batch(), None),
        (Returns("tensor"), batch()[0], None),
        (Returns("object"), {"x": batch()[0], "y": None}, None),
        (Returns("mapping"), {"x": batch()[0]}, None),
        (Returns("mapping"), {"x": batch()[0]}, lambda output, _: output["loss"]),
        (network(), [batch(), batch()], LOSS),
    ],
)
def test_batches_of_every_form(model: Any, given: Any, loss: Any) -> None:
    report = bench.compare(model, given, loss, steps=2)
    assert weights_of(report, "subgrad_fast")["same_bits"]


def test_who_cannot_take_part_is_named_and_why() -> None:
    class Refuses(SGD):
        def step(self, *_: Any) -> Any:
            raise RuntimeError("not here")

    optimizers = {"torch": sgd(), "other": lambda p: Refuses(p, lr=0.1), "ours": ours()}
    report = bench.compare(network(), batch(), LOSS, optimizers=optimizers, steps=2)
    assert report.failed == {"other": "RuntimeError: not here"}
    assert "other took no part: RuntimeError: not here" in str(report)
    assert [*report.figures["contenders"]] == ["torch", "ours"]
    with pytest.raises(RuntimeError, match="not here"):
        bench.compare(network(), batch(), LOSS, optimizers={"a": optimizers["other"]})


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        ({"model": 3}, TypeError, "model: expected a module or a function that makes one, got int"),
        ({"model": lambda: 3}, TypeError, "model: expected it to make a module, got int"),
        ({"model": torch.nn.ReLU()}, ValueError, "model: has no parameters that want a gradient"),
        ({"batch_or_loader": 3}, TypeError, "batch_or_loader: expected a batch"),
        ({"batch_or_loader": []}, ValueError, "batch_or_loader: has no batch"),
        ({"loss": 3}, TypeError, "loss: expected a function or None, got int"),
        ({"loss": lambda output, _: output}, TypeError, "loss: its result must be a tensor of one"),
        ({"loss": lambda *_: 1.0}, TypeError, "loss: its result must .* got float"),
        ({"loss": None}, TypeError, ".*"),
        ({"optimizers": [SGD]}, TypeError, "optimizers: expected a mapping with names, got list"),
        ({"optimizers": {1: sgd()}}, TypeError, "optimizers: expected a mapping with names"),
        ({"optimizers": {}}, ValueError, "optimizers: expected at least one, got none"),
        ({"optimizers": {"a": 1}}, TypeError, r"optimizers\['a'\]: expected a function of the par"),
        (
            {"optimizers": {"a": list}},
            TypeError,
            r"optimizers\['a'\]: .* got list, which has",
        ),
        ({"data": [1]}, TypeError, "data: expected a mapping with names, got list"),
        ({"data": {"a": 1}}, TypeError, r"data\['a'\]: expected a batch"),
        ({"steps": 0}, ValueError, "steps: expected an integer from 1"),
        ({"steps": 2.5}, TypeError, "steps: expected an integer from 1"),
        ({"seed": "1"}, TypeError, "seed: expected an integer"),
        ({"max_norm": 0}, ValueError, "max_norm: expected a number > 0 or None, got 0"),
        ({"max_norm": float("nan")}, ValueError, "max_norm: expected a number > 0 or None"),
        ({"max_norm": "1"}, TypeError, "max_norm: "),
        ({"progress": 1}, TypeError, "progress: expected a function or None, got int"),
    ],
)
def test_a_wrong_argument_is_named(wrong: dict[str, Any], error: Any, message: str) -> None:
    right: dict[str, Any] = {"model": network(), "batch_or_loader": batch(), "loss": LOSS}
    with pytest.raises(error, match=f"^{message}"):
        bench.compare(**{**right, "steps": 2, **wrong})


def test_it_is_found_at_the_first_use() -> None:
    assert sf.bench is bench
    assert {"compare", "Report"} <= {*dir(bench)}
    with pytest.raises(AttributeError, match="no attribute 'compair'"):
        _ = bench.compair
