"""Permutations: bijections, the reference's rows, ways of reading, blocks, errors; choose()."""

from __future__ import annotations

import itertools
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import subgrad_fast as sf
from tests.oracles import sampling as reference

BLOCKS = [{}, {"block_size": 1}, {"block_size": 7}, {"block_size": 64, "blocks_together": 3}]


def assert_permutation(order: sf.Permutation) -> None:
    rows = order[:]
    assert rows.dtype == np.int64
    positions = np.arange(order.n)
    np.testing.assert_array_equal(np.sort(rows), positions)
    np.testing.assert_array_equal(order.position(rows), positions)


def test_every_small_n_is_a_bijection(isa: str) -> None:
    for n in range(1, 2001):
        assert_permutation(sf.Permutation(n, seed=n))


@pytest.mark.parametrize("k", range(11, 20))
@pytest.mark.parametrize("shift", [-1, 0, 1])
def test_bijection_around_powers_of_two(k: int, shift: int) -> None:
    # 4^k + 1 is among them.
    assert_permutation(sf.Permutation(2**k + shift, seed=3))


@pytest.mark.parametrize("k", range(20, 63))
@pytest.mark.parametrize("shift", [-1, 0, 1])
def test_inverse_of_large_orders(isa: str, k: int, shift: int) -> None:
    order = sf.Permutation(2**k + shift, seed=4)
    positions = np.unique(np.linspace(0, order.n - 1, 300).astype(np.int64).clip(0, order.n - 1))
    rows = order[positions]
    assert rows.min() >= 0
    assert rows.max() < order.n
    assert np.unique(rows).size == rows.size
    np.testing.assert_array_equal(order.position(rows), positions)


def test_a_broken_bijection_would_be_found() -> None:
    class Broken(sf.Permutation):
        def slice(self, *args: Any, **kwargs: Any) -> Any:
            rows = super().slice(*args, **kwargs)
            rows[0] = rows[1]
            return rows

    with pytest.raises(AssertionError):
        assert_permutation(Broken(100))


def test_the_largest_n() -> None:
    order = sf.Permutation(2**63, seed=1)
    last = 2**63 - 1
    assert order.position(order[last]) == last
    assert order[-1] == order[last]
    assert order[[-1, -2]].tolist() == [order[last], order[last - 1]]
    assert order[last - 2 : last].tolist() == [order[last - 2], order[last - 1]]
    with pytest.raises(OverflowError):
        len(order)


@pytest.mark.parametrize("n", [1, 2, 5, 63, 64, 65, 100, 127, 128, 129, 1000, 4097, 65537])
@pytest.mark.parametrize(("seed", "epoch"), [(0, 0), (7, 3), (2**64 - 1, 2**64 - 2)])
def test_orders_are_those_of_the_reference(isa: str, n: int, seed: int, epoch: int) -> None:
    rows = sf.Permutation(n, seed=seed, epoch=epoch)[:]
    np.testing.assert_array_equal(rows, reference.permutation(n, seed, epoch))


@pytest.mark.parametrize("threads_used", [1, 2, 3])
def test_bits_do_not_depend_on_threads(
    isa: str, threads: Callable[[int], None], threads_used: int
) -> None:
    order = sf.Permutation(10**9 + 7, seed=5, epoch=6)
    sampler = sf.WeightedSampler(np.arange(1, 200_001) % 1000, seed=5)
    threads(1)
    one = order[:100_001], sampler.rows(2, 3, 100_001)
    threads(threads_used)
    np.testing.assert_array_equal(order[:100_001], one[0])
    again = sf.WeightedSampler(np.arange(1, 200_001) % 1000, seed=5)
    np.testing.assert_array_equal(again.rows(2, 3, 100_001), one[1])


@pytest.mark.parametrize("n", [1, 2, 10, 64, 100, 1000, 1025])
@pytest.mark.parametrize("blocks", BLOCKS)
def test_reading_in_any_way_gives_the_same_rows(n: int, blocks: dict[str, int]) -> None:
    order = sf.Permutation(n, seed=9, epoch=2, **blocks)
    rows = order[:]
    assert_permutation(order)
    assert list(order) == rows.tolist()
    assert [order[p] for p in range(n)] == rows.tolist()
    assert [order.position(int(row)) for row in rows] == list(range(n))
    np.testing.assert_array_equal(order[::-1], rows[::-1])
    np.testing.assert_array_equal(order[1:n:3], rows[1:n:3])
    np.testing.assert_array_equal(order[-3:], rows[-3:])
    np.testing.assert_array_equal(order[[]], [])
    picked = np.arange(n - 1, -1, -2).reshape(-1, 1)
    np.testing.assert_array_equal(order[picked], rows[picked])
    np.testing.assert_array_equal(order[picked.astype(np.uint32)], rows[picked])
    np.testing.assert_array_equal(order[[0, -1]], rows[[0, -1]])
    assert type(order[0]) is int


def test_out() -> None:
    order = sf.Permutation(100)
    out = np.full(10, -1)
    assert order.slice(20, 30, out=out) is out
    np.testing.assert_array_equal(out, order[20:30])
    assert order.take(np.arange(10), out=out) is out
    np.testing.assert_array_equal(out, order[:10])
    for bad in (np.empty(9, np.int64), np.empty(10, np.int32), np.empty(20, np.int64)[::2], [1]):
        with pytest.raises(ValueError, match="out"):
            order.slice(20, 30, out=bad)
    locked = np.empty(10, np.int64)
    locked.flags.writeable = False
    with pytest.raises(ValueError, match="writable"):
        order.slice(20, 30, out=locked)


@pytest.mark.torch
def test_out_may_be_a_tensor() -> None:
    import torch

    order = sf.Permutation(100)
    out = torch.empty(10, dtype=torch.int64)
    assert order.slice(0, 10, out=out) is out
    assert out.tolist() == order[:10].tolist()
    assert order[torch.tensor([3, 1])].tolist() == [order[3], order[1]]


@pytest.mark.parametrize("n", [10, 64, 1000])
@pytest.mark.parametrize("blocks", BLOCKS)
def test_reverse_pairs(n: int, blocks: dict[str, int]) -> None:
    def order(epoch: int) -> sf.Permutation:
        return sf.Permutation(n, seed=1, epoch=epoch, reverse_pairs=True, **blocks)

    assert_permutation(order(7))
    np.testing.assert_array_equal(order(7)[:], order(6)[::-1])
    assert (order(6)[:] != order(8)[:]).any()


@pytest.mark.parametrize(("n", "size", "together"), [(1000, 64, 3), (1000, 7, 5), (960, 64, 4)])
def test_blocks_are_read_once_and_few_at_a_time(n: int, size: int, together: int) -> None:
    for epoch in range(20):
        order = sf.Permutation(n, seed=2, epoch=epoch, block_size=size, blocks_together=together)
        blocks = order[:] // size
        first = {int(b): int(np.argmax(blocks == b)) for b in np.unique(blocks)}
        last = {b: n - 1 - int(np.argmax(blocks[::-1] == b)) for b in first}
        open_blocks = [sum(first[b] <= p <= last[b] for b in first) for p in range(n)]
        assert max(open_blocks) <= together
    whole = sf.Permutation(n, seed=2)[:] // size  # the control: without blocks all are open
    assert np.unique(whole[: n // 2]).size > together


def test_rows_of_different_blocks_are_shuffled_differently() -> None:
    order = sf.Permutation(1280, block_size=128)[:].reshape(10, 128)
    assert len({tuple(block % 128) for block in order}) == 10


def test_seeds_and_epochs_are_hashed() -> None:
    orders = {
        tuple(sf.Permutation(100, seed=seed, epoch=epoch)[:])
        for seed, epoch in itertools.product(range(20), range(20))
    }
    assert len(orders) == 400


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"n": 0}, ValueError, "n: expected an integer from 1"),
        ({"n": -1}, ValueError, "n: "),
        ({"n": 2**63 + 1}, ValueError, "n: "),
        ({"n": 1.5}, TypeError, r"n: .*, got 1\.5$"),
        ({"n": True}, TypeError, "n: .*, got True$"),
        ({"seed": -1}, ValueError, "seed: "),
        ({"seed": 2**64}, ValueError, "seed: "),
        ({"seed": None}, TypeError, "seed: "),
        ({"epoch": -1}, ValueError, "epoch: "),
        ({"block_size": 0}, ValueError, "block_size: "),
        ({"block_size": 3, "blocks_together": 0}, ValueError, "blocks_together: "),
    ],
)
def test_bad_orders(arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        sf.Permutation(**{"n": 10, **arguments})


@pytest.mark.parametrize(
    "position", [10, -11, np.int64(10), [3, 10], [-11], np.array([2**63], np.uint64)]
)
def test_positions_out_of_range(position: Any) -> None:
    order = sf.Permutation(10)
    with pytest.raises(IndexError, match="out of range for 10 rows"):
        order[position]
    with pytest.raises(IndexError, match="out of range for 10 rows"):
        order.position(position)


def test_positions_that_are_no_integers() -> None:
    for bad in ([1.0], np.ones(10, bool), "a"):
        with pytest.raises(TypeError, match="expected integers"):
            sf.Permutation(10)[bad]


def test_choose() -> None:
    for n, k in ((1, 1), (10, 0), (10, 10), (50, 7), (10**8, 128), (2**63, 5)):
        rows = sf.choose(n, k, seed=1, draw=2)
        assert rows.shape == (k,)
        assert np.unique(rows).size == k
        assert ((rows >= 0) & (rows < n)).all()
    assert sf.choose(10**9, 5, draw=1).tolist() != sf.choose(10**9, 5, draw=2).tolist()
    out = np.empty(3, np.int64)
    assert sf.choose(np.int64(10), np.int64(3), out=out) is out
    for bad in ({"n": 0}, {"k": 11}, {"k": -1}, {"seed": -1}, {"draw": -1}, {"draw": 2**64}):
        with pytest.raises(ValueError, match=f"{next(iter(bad))}: "):
            sf.choose(**{"n": 10, "k": 3, **bad})


@pytest.mark.slow
def test_bijection_of_a_whole_large_order() -> None:
    n = 2**27 + 1
    seen = np.zeros(n, bool)
    order = sf.Permutation(n, seed=1)
    for start in range(0, n, 2**22):
        seen[order[start : start + 2**22]] = True
    assert seen.all()


@pytest.mark.parametrize("blocks", BLOCKS)
def test_orders_are_pickled(blocks: dict[str, int]) -> None:
    order = sf.Permutation(100, seed=1, epoch=3, reverse_pairs=True, **blocks)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(order))[:], order[:])
