"""Samplers and BatchLoader on torch's CUDA tensors: the rows of the CPU, by our kernels.

Under the interpreter these are torch's CPU tensors in a disguise (disguise.py).
"""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import subgrad_fast as sf  # noqa: E402
from subgrad_fast import _core  # noqa: E402
from subgrad_fast.sampling import passes  # noqa: E402
from tests.cuda.disguise import DEVICE, DISGUISED, HOST  # noqa: E402

N = 1000


def to_device(x: np.ndarray) -> Any:
    return torch.from_numpy(x).to(DEVICE)


def fields() -> tuple[np.ndarray, np.ndarray]:
    x = np.random.default_rng(1).standard_normal((N, 3, 5)).astype(np.float32)
    return x, np.arange(N, dtype=np.uint8)


class Listed:
    """A sampler that is none of ours."""

    def __iter__(self) -> Iterator[list[int]]:
        yield from ([5, 5, 999], [0], [7, 8, 9, 10])

    def __len__(self) -> int:
        return 3


WEIGHTS = np.random.default_rng(2).random(N) ** 4
SAMPLERS = {
    "shuffled": lambda **k: sf.BatchSampler(N, 64, seed=1, **k),
    "in order": lambda **k: sf.BatchSampler(N, 64, shuffle=False, **k),
    "replacement": lambda **k: sf.BatchSampler(N, 64, replacement=True, num_samples=500, **k),
    "windows": lambda **k: sf.BatchSampler(N, 64, block_size=30, blocks_together=4, **k),
    "reverse": lambda **k: sf.BatchSampler(N, 64, reverse_pairs=True, **k),
    "weighted": lambda **k: sf.WeightedSampler(WEIGHTS, 64, seed=3, **k),
    "distinct": lambda **k: sf.WeightedSampler(WEIGHTS, 64, replacement=False, **k),
    "classes": lambda **k: sf.ClassBalancedSampler(np.arange(N) % 7, 64, **k),
}
COMPUTED = {"shuffled", "replacement", "windows", "reverse", "weighted"}


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The sizes of the batches whose indices were computed on the device."""
    sizes: list[int] = []
    write = passes.Span.write

    def noted(self: passes.Span, out: Any) -> None:
        sizes.append(len(self))
        write(self, out)

    monkeypatch.setattr(passes.Span, "write", noted)
    return sizes


def assert_same_batches(ours: Any, theirs: Any) -> int:
    """Both loaders yield the same from where they are to the end of the epoch; how many."""
    count = 0
    for got, wanted in zip(ours, theirs, strict=True):
        for a, b in zip(got, wanted, strict=True):
            assert a.device.type == DEVICE
            np.testing.assert_array_equal(a.cpu().numpy(), b)
        count += 1
    return count


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize(
    "place",
    [{}, {"rank": 2, "world_size": 3}, {"tail": "pad", "rank": 4, "world_size": 5}],
    ids=str,
)
def test_the_rows_of_the_cpus_loader(name: str, place: dict[str, Any], spans: list[int]) -> None:
    x, y = fields()
    ours = sf.BatchLoader((to_device(x), to_device(y)), SAMPLERS[name](**place))
    theirs = sf.BatchLoader((x, y), SAMPLERS[name](**place))
    for _ in range(2):
        count = assert_same_batches(ours, theirs)
        assert count == len(ours)
    assert len(spans) == (2 * count if name in COMPUTED else 0)


def test_a_sampler_that_is_not_ours() -> None:
    x, y = fields()
    assert_same_batches(
        sf.BatchLoader([to_device(x), to_device(y)], Listed()), sf.BatchLoader([x, y], Listed())
    )


def test_a_subclass_has_its_own_rows(spans: list[int]) -> None:
    class Backwards(sf.BatchSampler):
        def rows(self, epoch: int, start: int, count: int) -> Any:
            return N - 1 - super().rows(epoch, start, count)

    x, y = fields()
    assert_same_batches(
        sf.BatchLoader((to_device(x), to_device(y)), Backwards(N, 100)),
        sf.BatchLoader((x, y), Backwards(N, 100)),
    )
    assert spans == []


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("taken", [0, 1, 5])
def test_states_cross(name: str, taken: int) -> None:
    x, y = fields()
    arrays = (to_device(x), to_device(y)), (x, y)
    for first, second in (arrays, arrays[::-1]):
        loader = sf.BatchLoader(first, SAMPLERS[name]())
        loader.set_epoch(3)
        iterator = iter(loader)
        for _ in range(taken):
            next(iterator)
        state = loader.state_dict()
        resumed = sf.BatchLoader(second, SAMPLERS[name]())
        resumed.load_state_dict(state)
        host, device = (resumed, iterator) if first is arrays[0] else (iterator, resumed)
        assert assert_same_batches(device, host) == len(loader) - taken


def test_an_index_out_of_range() -> None:
    x = to_device(np.arange(10))
    for batches in ([[1, 2], [3, 10]], [[-1]]):
        with pytest.raises(IndexError, match="is outside the 10 rows"):
            list(sf.BatchLoader(x, batches))
    with pytest.raises(ValueError, match="sampler: is of 20 rows, but the arrays have 10"):
        sf.BatchLoader(x, sf.BatchSampler(20, 20))
    with pytest.raises(TypeError, match="sampler: expected batches of indices, got int"):
        list(sf.BatchLoader(x, sf.BatchSampler(10, None)))


def test_batches_are_the_callers() -> None:
    x = to_device(np.arange(N))
    kept = list(sf.BatchLoader(x, sf.BatchSampler(N, 100)))
    assert torch.cat(kept).sort().values.tolist() == list(range(N))


def test_autograd_may_keep_batches() -> None:
    w = torch.ones(3, requires_grad=True, device=DEVICE)
    data = np.random.default_rng(0).random((N, 3), np.float32)
    batches = sf.BatchLoader(to_device(data), sf.BatchSampler(N, 10))
    torch.stack([(batch * w).sum() for batch in batches]).sum().backward()
    np.testing.assert_allclose(w.grad.cpu().numpy(), data.sum(0), rtol=1e-4)


def test_layouts_and_types() -> None:
    base = torch.arange(N * 12, device=DEVICE).reshape(N, 3, 4)
    arrays = {
        "rows apart": base.repeat_interleave(2, 0)[::2],
        "transposed": base.transpose(1, 2),
        "expanded": torch.arange(4, device=DEVICE).expand(N, 4),
        "bfloat16": base.bfloat16(),
        "bool": base % 3 == 0,
        "complex": base.to(torch.complex64),
        "no columns": base[:, :0],
        "behind": base.to(torch.int16).reshape(N, 12)[:, 1:2],
    }
    sampler = sf.BatchSampler(N, 96)
    for batch, rows in zip(sf.BatchLoader(arrays, sampler), sf.BatchSampler(N, 96), strict=True):
        assert list(batch) == list(arrays)
        for name, array in arrays.items():
            assert torch.equal(batch[name], array[torch.from_numpy(rows).to(DEVICE)]), name


def test_what_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = to_device(np.zeros((4, 2))), to_device(np.zeros(4))
    host = torch.zeros(4)
    HOST.append(host)
    for arrays, message in [
        ((x, host), r"arrays\[1\]: expected memory on cuda:0 like arrays\[0\], got the host"),
        ((host, x), r"arrays\[1\]: expected memory on the host like arrays\[0\], got cuda:0"),
        ((x, np.zeros(4)), r"arrays\[1\]: expected memory on cuda:0 like arrays\[0\], got the h"),
        ((x, y[:3]), r"arrays\[1\]: has 3 rows, but arrays\[0\] has 4"),
        (x[:0], "arrays: has no rows"),
        (x[0, 0], "arrays: expected at least one dimension"),
        (torch._neg_view(x), "arrays: is a conjugated or negated view"),
    ]:
        with pytest.raises(ValueError, match=message):
            sf.BatchLoader(arrays, [[0]])
    with pytest.raises(ValueError, match="pin: arrays is on cuda:0"):
        sf.BatchLoader(x, [[0]], pin=True)
    monkeypatch.setattr(_core.cuda, "problem", lambda _: "there is no GPU")
    with pytest.raises(ValueError, match="arrays: is on cuda:0, but there is no GPU"):
        sf.BatchLoader(x, [[0]])


# --- samplers ------------------------------------------------------------------------------------


def test_permutation() -> None:
    order = sf.Permutation(100, seed=3)
    out = torch.empty(10, dtype=torch.int64, device=DEVICE)
    assert order.slice(20, 30, out=out) is out
    assert out.tolist() == order[20:30].tolist()
    positions = torch.tensor([[3, -1], [99, 0]], device=DEVICE, dtype=torch.int32)
    rows = order[positions]
    assert rows.dtype == torch.int64 and rows.device.type == DEVICE
    assert rows.tolist() == [[order[3], order[-1]], [order[99], order[0]]]
    assert order.position(rows).tolist() == [[3, 99], [99, 0]]
    assert positions.tolist() == [[3, -1], [99, 0]]
    taken = order.take(positions, out=out[:4])
    assert taken.tolist() == rows.reshape(-1).tolist()
    assert order[positions + 98].tolist() == [[-(2**63), order[97]], [-(2**63), order[98]]]
    with pytest.raises(ValueError, match="out: expected an array on the device"):
        order.take(positions, out=np.empty(4, np.int64))
    with pytest.raises(ValueError, match="out: expected an array on the device"):
        order.take(np.arange(4), out=out[:4])
    with pytest.raises(TypeError, match="positions: expected integers, got"):
        order[torch.zeros(3, device=DEVICE)]


@pytest.mark.parametrize("replacement", [True, False])
def test_weighted_draws(replacement: bool) -> None:
    ours = sf.WeightedSampler(WEIGHTS, seed=1, replacement=replacement)
    theirs = sf.WeightedSampler(WEIGHTS, seed=1, replacement=replacement)
    for count in (1, 100, 64):
        out = torch.empty(count, dtype=torch.int64, device=DEVICE)
        assert ours.draw(count, out=out) is out
        assert out.tolist() == theirs.draw(count).tolist()
    again = pickle.loads(pickle.dumps(ours))  # whose table is not on the device yet
    out = torch.empty(50, dtype=torch.int64, device=DEVICE)
    assert again.draw(50, out=out).tolist() == ours.draw(50).tolist() == theirs.draw(50).tolist()
    for sampler in (ours, theirs):
        sampler.update([3, 4], [100.0, 50.0])
    out = torch.empty(200, dtype=torch.int64, device=DEVICE)
    assert ours.draw(200, out=out).tolist() == theirs.draw(200).tolist()


def test_a_weight_changes_while_batches_are_taken() -> None:
    x = to_device(np.arange(N))
    sampler, other = (sf.WeightedSampler(WEIGHTS, 50, seed=4) for _ in range(2))
    iterator = iter(sf.BatchLoader(x, sampler))
    assert next(iterator).tolist() == other.batch(0).tolist()
    for s in (sampler, other):
        s.update(7, 1000.0)
    assert next(iterator).tolist() == other.batch(1).tolist()


def test_choose() -> None:
    out = torch.empty(30, dtype=torch.int64, device=DEVICE)
    assert sf.choose(500, 30, seed=2, draw=9, out=out) is out
    assert out.tolist() == sf.choose(500, 30, seed=2, draw=9).tolist()


# --- on a GPU ------------------------------------------------------------------------------------


@pytest.mark.skipif(DISGUISED, reason="a graph needs a GPU")
def test_draws_can_be_captured() -> None:
    order = sf.Permutation(N)
    out = torch.zeros(64, dtype=torch.int64, device=DEVICE)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        order.slice(0, 64, out=out)
    graph.replay()
    assert out.tolist() == order[:64].tolist()


@pytest.mark.skipif(DISGUISED, reason="streams need a GPU")
def test_the_callers_stream() -> None:
    x, y = fields()
    with torch.cuda.stream(torch.cuda.Stream()):
        assert_same_batches(
            sf.BatchLoader((to_device(x), to_device(y)), sf.BatchSampler(N, 64)),
            sf.BatchLoader((x, y), sf.BatchSampler(N, 64)),
        )
