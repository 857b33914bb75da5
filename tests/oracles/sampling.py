"""The generator and the permutation from their definitions in NumPy: the oracle of the tests.

Everything takes arrays of uint64, so that thousands of keys or positions are computed at a time.
What the library does not offer can be chosen here: other numbers of rounds, and no exchange of the
first two positions. These are the negative controls of the statistical tests.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

U64 = np.uint64
LOW = U64(0xFFFFFFFF)
HALF = U64(32)
PERMUTATION, UNIFORM = 1, 2  # purposes of keys

Array = Any  # uint64, any shape


def known_answers() -> list[tuple[list[int], list[int], list[int]]]:
    """The generator's published vectors: 32-bit words of counter, key and answer, lowest first."""
    text = Path(__file__).with_name("philox4x32_10.txt").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    rows = [[int(word, 16) for word in line.split()] for line in lines]
    return [(row[:4], row[4:6], row[6:]) for row in rows]


def join(words: list[int]) -> int:
    """The number that 32-bit words are, the lowest first."""
    return sum(word << 32 * i for i, word in enumerate(words))


def philox(key: Array, low: Array, high: Array, rounds: int = 10) -> tuple[Array, Array]:
    """Philox4x32 blocks at the counters low + 2^64 high: their two 64-bit words."""
    key, low, high = np.broadcast_arrays(*(np.asarray(x, U64) for x in (key, low, high)))
    x0, x1, x2, x3 = low & LOW, low >> HALF, high & LOW, high >> HALF
    k0, k1 = key & LOW, key >> HALF
    for _ in range(rounds):
        p0, p1 = x0 * U64(0xD2511F53), x2 * U64(0xCD9E8D57)
        x0, x1, x2, x3 = (p1 >> HALF) ^ x1 ^ k0, p1 & LOW, (p0 >> HALF) ^ x3 ^ k1, p0 & LOW
        k0, k1 = (k0 + U64(0x9E3779B9)) & LOW, (k1 + U64(0xBB67AE85)) & LOW
    return x0 | x1 << HALF, x2 | x3 << HALF


def epoch_key(seed: Array, epoch: Array, purpose: int, detail: int = 0) -> Array:
    return philox(seed, epoch, U64(purpose | detail << 32))[0]


def bounded(word: int, n: int) -> int | None:
    """Lemire's multiply with rejection."""
    high, low = divmod(word * n, 2**64)
    return high if low >= 2**64 % n else None


def bounded_draw(key: int, draw: int, n: int) -> int:
    attempt = 0
    while True:
        words = philox(U64(key), U64(draw >> 1), U64(attempt))
        value = bounded(int(words[draw & 1]), n)
        if value is not None:
            return value
        attempt += 1


def fisher_yates(n: int, key: int) -> list[int]:
    order: list[int] = []
    for i in range(n):
        j = bounded_draw(key, i, i + 1)
        order.append(i)
        order[i], order[j] = order[j], i
    return order


def _hash(half: Array, keys: tuple[Array, Array]) -> Array:
    x = (half ^ keys[0]) * U64(0xCC9E2D51)
    x = x ^ (x >> HALF) ^ keys[1]
    x = (x & LOW) * U64(0x85EBCA6B)
    return x ^ (x >> HALF)


def orders(
    n: int,
    keys: Array,
    *,
    rounds: int = 12,
    exchange: bool = True,
    bits: int | None = None,
    positions: Array | None = None,
) -> np.ndarray:
    """The network's orders, one a key: int64[keys, positions]. n >= 64, or any n for the controls.

    `bits`: of the block that is walked; by default the smallest that holds n.
    """
    bits = max((n - 1).bit_length(), 2) if bits is None else bits
    left_bits = bits // 2
    right_bits = bits - left_bits
    left_mask, right_mask = U64(2**left_bits - 1), U64(2**right_bits - 1)
    keys = np.asarray(keys, U64).reshape(-1, 1)
    x = np.arange(n, dtype=U64) if positions is None else np.asarray(positions, U64)
    x = np.broadcast_to(x, (len(keys), x.size)).copy()
    root, flags = philox(keys, U64(0), U64(n))
    if exchange:
        x ^= (flags & U64(1)) * (x < U64(2)).astype(U64)
    schedule = []
    for pair in range(0, rounds, 2):
        schedule += [(word & LOW, word >> HALF) for word in philox(root, U64(pair), U64(0))]
    walking = np.ones(x.shape, bool)
    while walking.any():
        left, right = x >> U64(right_bits), x & right_mask
        for i in range(rounds):
            if i % 2 == 0:
                left = left ^ (_hash(right, schedule[i]) & left_mask)
            else:
                right = right ^ (_hash(left, schedule[i]) & right_mask)
        x = np.where(walking, left << U64(right_bits) | right, x)
        walking = x >= U64(n)
    return x.astype(np.int64)


def permutation(n: int, seed: int, epoch: int) -> np.ndarray:
    """What ``Permutation(n, seed=seed, epoch=epoch)[:]`` must be."""
    key = epoch_key(U64(seed), U64(epoch), PERMUTATION)
    if n < 64:
        return np.array(fisher_yates(n, int(philox(key, U64(0), U64(n))[0])))
    return orders(n, key)[0]


def simon_orders(n: int, keys: Array, *, rounds: int = 4) -> np.ndarray:
    """A control: orders by a few rounds of a cipher like Simon (rotations and AND)."""
    bits = max((n - 1).bit_length(), 2)
    bits += bits % 2
    half = bits // 2
    mask = U64(2**half - 1)

    def rotated(v: Array, by: int) -> Array:
        by %= half
        return v if by == 0 else ((v << U64(by)) | (v >> U64(half - by))) & mask

    keys = np.asarray(keys, U64).reshape(-1, 1)
    schedule = [philox(keys, U64(i), U64(n))[0] & mask for i in range(rounds)]
    x = np.broadcast_to(np.arange(n, dtype=U64), (len(keys), n)).copy()
    walking = np.ones(x.shape, bool)
    while walking.any():
        left, right = x >> U64(half), x & mask
        for i in range(rounds):
            mixed = (rotated(left, 1) & rotated(left, 8)) ^ rotated(left, 2)
            left, right = right ^ mixed ^ schedule[i], left
        x = np.where(walking, left << U64(half) | right, x)
        walking = x >= U64(n)
    return x.astype(np.int64)
