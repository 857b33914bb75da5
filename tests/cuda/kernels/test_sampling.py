"""Orders and draws on a device: the rows of every instruction set of the CPU."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import subgrad_fast as sf
from subgrad_fast import _core
from tests.cases import every_isa
from tests.cuda.machines import Gpu
from tests.oracles.sampling import join, known_answers

OUTSIDE = -(2**63)
# A block has 256 threads, and a grid as many as fit the device twice: 2048 under the interpreter.
COUNTS = [0, 1, 2, 31, 33, 255, 256, 257, 2047, 2048, 2049, 4500]
SIZES = [1, 2, 63, 64, 65, 100, 128, 129, 1024, 4**5 + 1, 2**32, 2**32 + 1, 4**20 + 1]
SIZES += [2**62 - 1, 2**63 - 1, 2**63]
BLOCKS: list[dict[str, Any]] = [
    {"block_size": 1},
    {"block_size": 7},
    {"block_size": 64, "blocks_together": 3},
    {"block_size": 5, "blocks_together": 1000},
]


def empty(gpu: Gpu, count: int, offset: int = 0) -> Any:
    return gpu.array(np.full(count, 77, np.int64), offset)


def check(gpu: Gpu, got: Any, compute: Callable[[], np.ndarray], what: str = "") -> None:
    for isa in every_isa():
        assert gpu.numpy(got).tolist() == compute().tolist(), f"{what} against {isa}"


# --- the generator -------------------------------------------------------------------------------


@pytest.mark.parametrize(("counter", "key", "answer"), known_answers())
def test_known_answers(gpu: Gpu, counter: list[int], key: list[int], answer: list[int]) -> None:
    for before in (0, 1, 40):  # in other lanes and warps
        low = (join(counter[:2]) - before) % 2**64
        out = empty(gpu, 2 * (before + 2))
        _core.testing.random_words_on_device(join(key), low, join(counter[2:]), out)
        words = gpu.numpy(out).view(np.uint32).reshape(-1, 4)
        assert words[before].tolist() == answer


@pytest.mark.parametrize("blocks", COUNTS)
def test_words_of_any_number_of_blocks(gpu: Gpu, blocks: int) -> None:
    key, low, high = 0x1234567890ABCDEF, 2**32 - 5, 2**63 + 9
    out = empty(gpu, 2 * blocks)
    _core.testing.random_words_on_device(key, low, high, out)
    check(gpu, out, lambda: _core.testing.random_words(key, low, high, blocks).view(np.int64))


# --- orders --------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", SIZES)
def test_orders(gpu: Gpu, n: int) -> None:
    order = sf.Permutation(n, seed=n % 1000, epoch=3)
    for start, stop, step in [
        (0, min(n, 1200), 1),
        (n - 1, max(n - 70, 0) - 1, -1),
        (n // 3, n, n // 50 + 1),
    ]:
        count = len(range(start, stop, step))
        out = empty(gpu, count)
        assert order.slice(start, stop, step, out=out) is out
        check(gpu, out, lambda: order.slice(start, stop, step), f"{n} {start} {step}")  # noqa: B023


@pytest.mark.parametrize("count", COUNTS)
def test_any_number_of_positions(gpu: Gpu, count: int) -> None:
    for n in (5000, 10**10):
        order = sf.Permutation(n, seed=1)
        out = empty(gpu, count, 1)
        order.slice(7, 7 + count, out=out)
        check(gpu, out, lambda: order.slice(7, 7 + count), f"{n}")  # noqa: B023


@pytest.mark.parametrize("blocks", BLOCKS, ids=str)
@pytest.mark.parametrize("n", [1, 10, 64, 500, 10**12 + 3])
def test_block_by_block(gpu: Gpu, n: int, blocks: dict[str, Any]) -> None:
    for reverse in (False, True):
        order = sf.Permutation(n, seed=9, epoch=5, reverse_pairs=reverse, **blocks)
        # Windows of one row have tables, and each takes the interpreter some time.
        count = min(n, 90)
        rows = empty(gpu, count)
        order.slice(n - count, n, out=rows)
        check(gpu, rows, lambda: order.slice(n - count, n), str(order._arguments))  # noqa: B023
        _core.sampling.Order.positions(order._order, rows)
        assert gpu.numpy(rows).tolist() == list(range(n - count, n))


@pytest.mark.parametrize("n", [1, 63, 64, 65, 4097, 2**33 + 1, 2**63])
@pytest.mark.parametrize("reverse", [False, True])
def test_positions_and_back(gpu: Gpu, n: int, reverse: bool) -> None:
    order = sf.Permutation(n, seed=2, epoch=1, reverse_pairs=reverse)
    wanted = np.random.default_rng(n % 99).integers(0, n - 1, 400, endpoint=True)
    rows = gpu.array(wanted)
    order._order.indices(rows)
    check(gpu, rows, lambda: order[wanted])
    order._order.positions(rows)
    check(gpu, rows, lambda: wanted)


@pytest.mark.parametrize("options", [{}, {"block_size": 10, "blocks_together": 2}])
@pytest.mark.parametrize("n", [5, 100, 5000, 2**63])
def test_positions_outside(gpu: Gpu, n: int, options: dict[str, int]) -> None:
    order = sf.Permutation(n, **options)
    given = [0, -1, n - 1, -n, n, -n - 1, 2**63 - 1, -(2**63), 1]
    given = [x for x in given if -(2**63) <= x < 2**63]
    wanted = [order[x] if -n <= x < n else OUTSIDE for x in given]
    for method in (order._order.indices, order._order.positions):
        values = gpu.array(np.array(given, np.int64))
        method(values)
        if method == order._order.positions:
            wanted = [order.position(x) if -n <= x < n else OUTSIDE for x in given]
        assert gpu.numpy(values).tolist() == wanted


def test_another_key_would_be_seen(gpu: Gpu) -> None:
    out = empty(gpu, 300)
    sf.Permutation(300, seed=1).slice(0, 300, out=out)
    with pytest.raises(AssertionError):
        check(gpu, out, lambda: sf.Permutation(300, seed=2)[:])


@pytest.mark.parametrize(("n", "k"), [(1, 1), (40, 40), (40, 7), (64, 64), (10**12, 300), (9, 0)])
def test_choose(gpu: Gpu, n: int, k: int) -> None:
    out = empty(gpu, k)
    assert sf.choose(n, k, seed=5, draw=6, out=out) is out
    check(gpu, out, lambda: sf.choose(n, k, seed=5, draw=6))


# --- draws ---------------------------------------------------------------------------------------

STARTS = [0, 1, 2**33 + 2, 2**33 + 1]


def uniform(n: int, start: int, count: int) -> np.ndarray:
    out = np.empty(count, np.int64)
    _core.sampling.uniform_draws(n, 3, 4, start, out)
    return out


@pytest.mark.parametrize("n", [1, 3, 1000, 2**32 + 1, 2**63, 3 * 2**61])
def test_uniform_draws(gpu: Gpu, n: int) -> None:
    # Of 3 * 2^61 every fourth word is refused, and drawn again.
    for start in STARTS:
        for offset in (0, 1):  # as aligned pairs, and one by one
            out = empty(gpu, 101, offset)
            _core.sampling.uniform_draws(n, 3, 4, start, out)
            check(gpu, out, lambda: uniform(n, start, 101), f"{n} {start}")  # noqa: B023


@pytest.mark.parametrize("count", [*COUNTS, 4095, 4096, 4097])
def test_any_number_of_draws(gpu: Gpu, count: int) -> None:
    for start in (0, 5):
        for offset in (0, 1):
            out = empty(gpu, count, offset)
            _core.sampling.uniform_draws(12345, 3, 4, start, out)
            check(gpu, out, lambda: uniform(12345, start, count), f"{start} {offset}")  # noqa: B023


@pytest.mark.parametrize("n", [1, 2, 7, 1000, 4097])
def test_weighted_draws(gpu: Gpu, n: int) -> None:
    weights = np.random.default_rng(n).random(n) ** 8
    weights[::3] = 0.0
    weights[n // 2] = 1.0
    drawer = _core.sampling.Weights(weights, None)
    for start in STARTS:
        for by_epoch in (False, True):
            out = empty(gpu, 700, start % 2)
            drawer.draw(1, 2, start, by_epoch, out)

            def wanted(start: int = start, by_epoch: bool = by_epoch) -> np.ndarray:
                rows = np.empty(700, np.int64)
                drawer.draw(1, 2, start, by_epoch, rows)
                return rows

            check(gpu, out, wanted, f"{start} {by_epoch}")
            assert (weights[gpu.numpy(out)] > 0).all()


def test_changed_weights_are_drawn_anew(gpu: Gpu) -> None:
    drawer = _core.sampling.Weights(np.ones(4), None)
    for _ in range(2):  # by the table on the device, then by the tree of the host
        out, here = empty(gpu, 300), np.empty(300, np.int64)
        drawer.draw(1, 2, 0, True, out)
        drawer.draw(1, 2, 0, True, here)
        np.testing.assert_array_equal(gpu.numpy(out), here)
        drawer.update(np.array([1]), np.array([2.0]))


# --- arguments -----------------------------------------------------------------------------------


def test_outputs_that_do_not_fit(gpu: Gpu) -> None:
    order = sf.Permutation(100)
    floats = gpu.array(np.zeros(10))
    narrow = gpu.array(np.zeros(10, np.int32))
    for out, message in [
        (empty(gpu, 9), r"out: expected int64 of shape \(10,\), got int64 of shape \(9,\)"),
        (floats, r"out: expected int64 of shape \(10,\), got float64 of shape \(10,\)"),
        (narrow, r"out: expected int64 of shape \(10,\), got int32 of shape \(10,\)"),
    ]:
        with pytest.raises(ValueError, match=message):
            order.slice(0, 10, out=out)
        with pytest.raises(ValueError, match=message):
            sf.choose(100, 10, out=out)
        with pytest.raises(ValueError, match=message):
            sf.WeightedSampler(np.ones(5)).draw(10, out=out)
    with pytest.raises(ValueError, match="out: expected int64, got int32"):
        order._order.range(0, 1, np.zeros(10, np.int32))
    with pytest.raises(IndexError):
        order.slice(95, 105, out=empty(gpu, 10))
