"""What our DataLoader promises beyond torch's: memory, states, and saying what it does."""

from __future__ import annotations

import copy
import gc
import os
import pickle
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import subgrad_fast as sf

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.torch

import torch.utils.data as torchs  # noqa: E402

from subgrad_fast.data import DataLoader  # noqa: E402
from tests.data.cases import N, Squares, X, Y, assert_same  # noqa: E402


class Stream(torchs.IterableDataset[Any]):
    def __len__(self) -> int:
        return N

    def __iter__(self) -> Any:
        return iter(range(N))


def test_batches_are_the_callers() -> None:
    loader = DataLoader(torchs.TensorDataset(X, Y), 10, shuffle=True)
    for epoch in (list(loader), list(loader)):
        assert torch.equal(torch.cat([y for _, y in epoch]).sort().values, Y)
        for x, y in epoch:
            assert torch.equal(x, X[y])
            x.zero_()


def test_it_says_which_code_makes_the_batches() -> None:
    data = torchs.TensorDataset(X, Y)
    assert DataLoader(data).handed_over is None
    assert "gathered" in repr(DataLoader(data))
    for loader, why in (
        (DataLoader(data, collate_fn=len), "collate_fn: not torch's default"),
        (DataLoader(data, None), "batch_size: None, so items are not collated"),
        (DataLoader(data, worker_init_fn=print, num_workers=1), "worker_init_fn: is to run"),
        (DataLoader(Stream()), "dataset: is iterated over"),
        (DataLoader(Squares()), "dataset: the items of a Squares may be anything"),
        (DataLoader(torchs.TensorDataset(X[:0])), "dataset: has no items"),
    ):
        assert loader.handed_over is not None
        assert loader.handed_over.startswith(why)
        assert why in repr(loader)


def test_a_collate_function_that_torch_was_taught(monkeypatch: pytest.MonkeyPatch) -> None:
    from torch.utils.data._utils import collate

    loader = DataLoader(torchs.TensorDataset(X), 4)
    monkeypatch.setitem(collate.default_collate_fn_map, torch.Tensor, lambda batch, **_: len(batch))
    assert next(iter(loader)) == [4]
    assert loader.handed_over == "collate_fn: not torch's default"


def test_a_sampler_of_other_rows() -> None:
    for sampler in (sf.BatchSampler(N + 1, 8), sf.BatchSampler(N + 1, 8).as_torch()):
        with pytest.raises(ValueError, match=f"^batch_sampler: is of {N + 1} rows.* has {N}"):
            DataLoader(torchs.TensorDataset(X), batch_sampler=sampler)


def test_pin_memory_without_an_accelerator_warns() -> None:
    if torch.accelerator.is_available():
        pytest.skip("there is an accelerator")
    with pytest.warns(UserWarning, match="pin_memory"):
        batches = list(DataLoader(X, 50, pin_memory=True))
    assert_same(batches, [X[:50], X[50:100], X[100:]])


def test_attributes_and_lengths() -> None:
    data = torchs.TensorDataset(X, Y)
    loader = DataLoader(data, 10, shuffle=True, drop_last=True)
    assert isinstance(loader, torchs.DataLoader)
    assert loader.dataset is data
    assert type(loader.sampler) is torchs.RandomSampler
    assert type(loader.batch_sampler) is torchs.BatchSampler
    assert (loader.batch_size, loader.drop_last, len(loader), len(iter(loader))) == (
        10,
        True,
        10,
        10,
    )
    with pytest.raises(ValueError, match="batch_size"):
        loader.batch_size = 3


def test_two_passes_at_once() -> None:
    loader = DataLoader(torchs.TensorDataset(Y), 10, shuffle=True)
    pairs = list(zip(loader, loader, strict=True))
    for side in (0, 1):
        assert torch.equal(torch.cat([pair[side][0] for pair in pairs]).sort().values, Y)
    assert any(not torch.equal(one[0], other[0]) for one, other in pairs)


def test_a_mapped_file_that_was_cut(tmp_path: Path) -> None:
    """To read behind its end would end the process. Nothing is drawn before that is seen."""
    np.save(tmp_path / "x.npy", X.numpy())
    loader = DataLoader(np.load(tmp_path / "x.npy", mmap_mode="r"), 10, shuffle=True)
    assert len(list(loader)) == 11
    os.truncate(tmp_path / "x.npy", 500)
    before = torch.get_rng_state()
    with pytest.raises(ValueError, match="its file has 500 bytes"):
        iter(loader)
    assert torch.equal(torch.get_rng_state(), before)


# --- states --------------------------------------------------------------------------------------

Make = Callable[[], Any]


def own_generator() -> Any:
    return torch.Generator().manual_seed(8)


LOADERS: dict[str, Make] = {
    "shuffled": lambda: DataLoader(torchs.TensorDataset(X, Y), 20, True),
    "in order": lambda: DataLoader(torchs.TensorDataset(X, Y), 20),
    "own generator": lambda: DataLoader(X, 20, True, generator=own_generator()),
    "a subset": lambda: DataLoader(torchs.Subset(torchs.TensorDataset(Y), range(99)), 20, True),  # type: ignore[arg-type]
    "weighted": lambda: DataLoader(X, 20, sampler=torchs.WeightedRandomSampler(Y + 1.0, 103)),
    "torch's code": lambda: DataLoader(Squares(), 20, True),
    "torch's code, own generator": lambda: DataLoader(
        Squares(), 20, True, generator=own_generator()
    ),
    "torch's workers": lambda: DataLoader(Squares(), 20, True, num_workers=2),
    "torch's workers, kept": lambda: DataLoader(
        Squares(), 20, True, num_workers=1, persistent_workers=True
    ),
    "items": lambda: DataLoader(X[:8], None, True),
    "a stream": lambda: DataLoader(Stream(), 20),
    "our sampler": lambda: DataLoader(X, batch_sampler=sf.BatchSampler(N, 20).as_torch()),
    "our sampler, torch's code": lambda: DataLoader(
        Squares(), batch_sampler=sf.BatchSampler(N, 20).as_torch()
    ),
    "our sampler, torch's workers": lambda: DataLoader(
        Squares(), batch_sampler=sf.BatchSampler(N, 20).as_torch(), num_workers=1
    ),
    "our rows": lambda: DataLoader(X, 20, sampler=sf.BatchSampler(N, None).as_torch()),
    "our array sampler": lambda: DataLoader(X, batch_sampler=sf.BatchSampler(N, 20)),
}


STATES = [
    (name, before, taken)
    for name in LOADERS
    for before in (0, 1)
    for taken in (1, 3, 5, 6, "over")
    # Processes take long to begin. Those that are kept draw their seed once, so a new loader's
    # order is another where the old one had drawn it before the epoch that is begun.
    if "workers" not in name or (before, taken) in ((0, 6), (1, 3))
]


@pytest.mark.parametrize(("name", "before", "taken"), STATES)
def test_a_state_goes_on_where_it_was_taken(name: str, before: int, taken: Any) -> None:
    make = LOADERS[name]
    torch.manual_seed(2)
    loader = make()
    for _ in range(before):
        list(loader)
    rest = iter(loader)
    # torch's batches of rows look for one more row behind the last batch.
    if taken == "over" or taken + (name == "our rows") > len(loader):
        taken = "over"
        list(rest)
    else:
        for _ in range(taken):
            next(rest)
    state, random = loader.state_dict(), torch.get_rng_state()
    copies = [make(), copy.deepcopy(loader)]
    copies[0].load_state_dict(pickle.loads(pickle.dumps(state)))
    if name != "a stream":
        copies.append(pickle.loads(pickle.dumps(loader)))
    expected = [list(loader) if taken == "over" else list(rest), list(loader)]
    for resumed in copies:
        torch.set_rng_state(random)
        got = [list(resumed), list(resumed)]
        assert_same(got, expected)


@pytest.mark.parametrize("name", [name for name in LOADERS if "workers" not in name])
def test_a_state_before_the_first_batch(name: str) -> None:
    """Of a sampler with a state or in order it settles the batches, else how many there are."""
    loader = LOADERS[name]()
    begun = iter(loader)
    resumed = LOADERS[name]()
    resumed.load_state_dict(loader.state_dict())
    got, expected = list(resumed), list(begun)
    assert len(got) == len(expected)
    if "our" in name or name in ("in order", "a stream"):
        assert_same(got, expected)


def test_a_state_behind_a_loop_that_stopped_with_the_last_batch() -> None:
    loader = DataLoader(X, 20, True)
    for _ in zip(range(len(loader)), loader, strict=False):
        pass
    resumed = DataLoader(X, 20, True)
    resumed.load_state_dict(loader.state_dict())
    assert len(list(resumed)) == 6


def test_states_that_are_refused() -> None:
    loader = DataLoader(X, 20, True)
    next(iter(loader))
    good = loader.state_dict()
    for wrong, error, message in (
        (3, TypeError, "^state: expected a dict"),
        ({}, ValueError, "^state: .* missing"),
        ({**good, "version": 9}, ValueError, "^state\\['version'\\]"),
        ({**good, "batches": -1}, ValueError, "^state\\['batches'\\]"),
        ({**good, "batches": "1"}, TypeError, "^state\\['batches'\\]"),
        ({**good, "batch_size": 10}, ValueError, "^state\\['batch_size'\\]: 10"),
        ({**good, "sampler": {}}, ValueError, "^state\\['sampler'\\]"),
        ({**good, "random": None}, TypeError, "^state\\['random'\\]"),
        ({**good, "random": {"own": [X], "global": None}}, ValueError, "^state\\['random'\\]"),
        ({**good, "random": {"own": [], "global": X}}, ValueError, "^state\\['random'\\]"),
        ({**good, "random": {"own": [], "global": 3}}, TypeError, "^state\\['random'\\]"),
    ):
        fresh = DataLoader(X, 20, True)
        with pytest.raises(error, match=message):
            fresh.load_state_dict(wrong)
        assert len(list(fresh)) == 6


def test_a_loader_that_is_let_go_is_gone_at_once() -> None:
    """And its workers with it: the garbage collector would come late, and take seconds."""
    gc.collect()
    gc.disable()
    try:
        for name, make in LOADERS.items():
            loader = make()
            begun = iter(loader)
            next(begun)
            gone = [weakref.ref(loader), weakref.ref(begun)]
            del loader, begun
            assert [ref() for ref in gone] == [None, None], name
    finally:
        gc.enable()
