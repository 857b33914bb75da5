"""Whatever the data set, sampler and options: the batches are those of torch's DataLoader."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.torch

import torch.utils.data as torchs  # noqa: E402

from subgrad_fast.data import DataLoader  # noqa: E402
from tests.data.cases import GATHERED, HANDED_OVER, N, X, Y, assert_same  # noqa: E402

Make = Callable[[Any], Any]


def passes(make: Make, kind: Any, *, epochs: int = 3) -> tuple[list[Any], Any]:
    """Batches of some epochs of a loader, and what torch's generator gives behind each."""
    torch.manual_seed(7)
    loader = make(kind)
    return [(list(loader), torch.rand(2)) for _ in range(epochs)] + [len(loader)], loader


def compared(make: Make, *, gathered: bool = True) -> None:
    expected, _ = passes(make, torchs.DataLoader)
    got, loader = passes(make, DataLoader)
    assert (loader.handed_over is None) == gathered, loader
    assert_same(got, expected)


@pytest.mark.filterwarnings("ignore:The given NumPy array is not writable")
@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("name", [*GATHERED, *HANDED_OVER])
def test_of_every_data_set(name: str, shuffle: bool) -> None:
    make = {**GATHERED, **HANDED_OVER}[name]
    compared(lambda kind: kind(make(), 16, shuffle), gathered=name in GATHERED)


@pytest.mark.parametrize("drop_last", [True, False])
@pytest.mark.parametrize("size", [1, 10, N, 2 * N])
@pytest.mark.parametrize("own", [True, False], ids=["own generator", "global"])
def test_of_every_size(size: int, drop_last: bool, own: bool) -> None:
    def make(kind: Any) -> Any:
        generator = torch.Generator().manual_seed(5) if own else None
        return kind(
            torchs.TensorDataset(X, Y), size, True, drop_last=drop_last, generator=generator
        )

    compared(make)


def test_generators_stand_where_torchs_would_at_every_batch() -> None:
    def drawn(kind: Any) -> list[Any]:
        torch.manual_seed(3)
        own = torch.Generator().manual_seed(4)
        loader = kind(torchs.TensorDataset(X), 10, True, generator=own)
        out = [own.get_state()]
        for begun in (iter(loader), iter(loader)):
            out += [own.get_state()] + [(batch, own.get_state(), torch.rand(1)) for batch in begun]
        return [*out, own.get_state()]

    assert_same(drawn(DataLoader), drawn(torchs.DataLoader))


class Itself:
    """A batch sampler that is its own iterator, as the one that Lightning predicts with."""

    begun = 0

    def __len__(self) -> int:
        return 5

    def __iter__(self) -> Itself:
        self.begun += 1
        assert self.begun < 10, "it would go on for ever"
        self.rows = iter(range(0, 50, 10))
        return self

    def __next__(self) -> list[int]:
        return [next(self.rows), 3]


SAMPLERS: dict[str, Callable[[], dict[str, Any]]] = {
    "weighted": lambda: {"sampler": torchs.WeightedRandomSampler(Y + 1.0, 50), "batch_size": 7},
    "repeated": lambda: {
        "sampler": torchs.RandomSampler(Y, replacement=True, num_samples=90),
        "batch_size": 8,
    },
    "more than all": lambda: {"sampler": torchs.RandomSampler(Y, num_samples=250)},
    "a part": lambda: {"sampler": torchs.SubsetRandomSampler([5, 2, -1, 9]), "batch_size": 3},
    "distributed": lambda: {
        "sampler": torchs.DistributedSampler(Y, num_replicas=3, rank=1),  # type: ignore[arg-type]
        "batch_size": 10,
    },
    "lists": lambda: {"batch_sampler": [[1, 2, 3], [4], [7, 7, -2]]},
    "tuples": lambda: {"batch_sampler": [(1, 2, 3), (4, 5)]},
    "tensors": lambda: {"batch_sampler": [torch.tensor([1, 2]), torch.tensor([-1])]},
    "lists of tensors": lambda: {"sampler": list(torch.arange(20)), "batch_size": 6},
    "batches of batches": lambda: {"sampler": [[1, 2], [3, 4], [5, 6]], "batch_size": 2},
    "slices": lambda: {"sampler": [slice(0, 3), slice(4, 7)], "batch_size": 2},
    "its own iterator": lambda: {"batch_sampler": Itself()},
    "an empty list": lambda: {"sampler": []},
}


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("part", [False, True], ids=["whole", "subset"])
def test_with_every_sampler(name: str, part: bool) -> None:
    data: Any = torchs.TensorDataset(X, Y)
    if part and name in ("batches of batches", "slices"):
        pytest.skip("a Subset takes no such items")
    data = torchs.Subset(data, torch.randperm(N).tolist()) if part else data
    compared(lambda kind: kind(data, **SAMPLERS[name]()))


@pytest.mark.parametrize("wrong", [N, -N - 1, 1.5, "a", None, np.uint64(2**64 - 1)])
def test_what_is_no_row_raises_what_it_raises_there(wrong: Any) -> None:
    errors = []
    for kind in (torchs.DataLoader, DataLoader):
        begun = iter(kind(torchs.TensorDataset(X, Y), batch_sampler=[[0, 1], [2, wrong], [3]]))
        assert_same(next(begun), [X[:2], Y[:2]])
        with pytest.raises(Exception) as caught:  # noqa: PT011  compared below
            next(begun)
        errors.append((caught.type, str(caught.value)))
    assert errors[0] == errors[1]


WORKERS: list[dict[str, Any]] = [
    {"num_workers": 1},
    {"num_workers": 2, "prefetch_factor": 3, "persistent_workers": True},
]


@pytest.mark.parametrize("options", WORKERS)
@pytest.mark.parametrize("name", ["tensors", "large rows", "somebody's own"])
def test_with_workers(name: str, options: dict[str, Any]) -> None:
    data = {**GATHERED, **HANDED_OVER}[name]()
    compared(lambda kind: kind(data, 20, True, **options), gathered=name in GATHERED)


def test_rows_that_change_under_a_pass() -> None:
    """Without workers torch reads rows when they are asked for, and so do we."""

    def seen(kind: Any) -> list[Any]:
        x = torch.zeros(400, 1000)
        data = torchs.TensorDataset(x)
        out = []
        for i, (batch,) in enumerate(kind(data, 100)):
            out.append(batch[:, 0].tolist())
            x += i + 1
        data.tensors = (torch.ones(30, 2),)
        return [*out, list(kind(data, 7))]

    assert_same(seen(DataLoader), seen(torchs.DataLoader))


def test_arrays_that_are_replaced_between_passes() -> None:
    data = torchs.TensorDataset(X.clone(), Y)
    loader = DataLoader(data, 50)
    list(loader)
    data.tensors[0].data = X * 2
    assert torch.equal(next(iter(loader))[0], 2 * X[:50])
    data.tensors = (Y,)
    assert_same(next(iter(loader)), [Y[:50]])
    part = torchs.Subset(data, list(range(10)))
    loader = DataLoader(part, 4)
    list(loader)
    part.indices[0] = 9  # type: ignore[index]
    assert next(iter(loader))[0].tolist() == [9, 1, 2, 3]


def test_tuples_and_dicts_of_arrays_are_columns() -> None:
    columns = DataLoader((X, Y), 10)
    assert_same(next(iter(columns)), [X[:10], Y[:10]])
    assert len(columns) == 11
    named = DataLoader({"x": X.numpy(), "y": Y}, 10, shuffle=True)
    assert sorted(torch.cat([batch["y"] for batch in named]).tolist()) == Y.tolist()
    for items in ((X, X), (X[:2], Y[:2], Y[:2])):  # what could be a tuple of items is one
        loader = DataLoader(items, 1)
        assert_same(list(loader), list(torchs.DataLoader(items, 1)))  # type: ignore[arg-type]


def test_options_that_torch_refuses() -> None:
    data = torchs.TensorDataset(X)
    for options in (
        {"batch_size": 0},
        {"shuffle": True, "sampler": [1]},
        {"num_workers": -1},
        {"persistent_workers": True},
        {"batch_sampler": [[1]], "drop_last": True},
        {"timeout": -1},
    ):
        with pytest.raises(ValueError) as expected:  # noqa: PT011  compared below
            torchs.DataLoader(data, **options)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match=r"^") as got:
            DataLoader(data, **options)  # type: ignore[arg-type]
        assert str(got.value) == str(expected.value)
