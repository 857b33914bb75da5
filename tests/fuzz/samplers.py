"""Samplers of every kind at random, and what an epoch of them must be, computed naively."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

import subgrad_fast as sf
from tests.fuzz.life import Life

Sampler = Any  # subgrad_fast.sampling.Sampler, with the methods of its subclasses


@dataclass
class Spec:
    """How to build one sampler any number of times.

    Attributes:
        build: takes keywords that replace those of `options`.
        check: raises a Fault unless the rows are those of one epoch.
        updates: of a `WeightedSampler`, to be made again on whatever is built.
    """

    build: Callable[..., Sampler]
    options: dict[str, Any]
    check: Callable[[np.ndarray], None]
    batched: bool = True  # whether the batch size may be None or another
    updates: list[tuple[Any, Any]] = field(default_factory=list)
    rows_of: dict[tuple[int, int], np.ndarray] = field(default_factory=dict)

    def made(self, **changes: Any) -> Sampler:
        sampler = self.build(**self.options | changes)
        for rows, weights in self.updates:
            sampler.update(rows, weights)
        return sampler

    def rows(self, seed: int, epoch: int) -> np.ndarray:
        """All rows of an epoch, checked."""
        key = (seed, epoch)
        if key not in self.rows_of:
            twin = self.made(seed=seed, rank=0, world_size=1)
            rows = twin.rows(epoch, 0, twin.length)
            self.check(rows)
            self.rows_of = {**dict(list(self.rows_of.items())[-4:]), key: np.array(rows)}
        return self.rows_of[key]


def parts(
    rows: np.ndarray, position: int, size: int, sampler: Sampler
) -> list[tuple[np.ndarray, int]]:
    """A rank's batches from a position on: its rows, and the position behind each."""
    found = []
    while position + (size if sampler.tail == "drop" else 1) <= rows.size:
        batch = rows[position : position + size]
        if sampler.tail == "pad":
            batch = np.concatenate([batch, rows[: size - batch.size]])
        begin = batch.size * sampler.rank // sampler.world_size
        end = batch.size * (sampler.rank + 1) // sampler.world_size
        position = min(position + size, rows.size)
        found.append((batch[begin:end], position))
    return found


def random_spec(life: Life, kinds: tuple[str, ...] | None = None) -> Spec:
    """A sampler of some kind; `kinds` names those to choose among."""
    kind = life.pick(kinds or tuple(_KINDS))
    spec = _KINDS[kind](life)
    life.note(f"{kind} {short(spec.options)}")
    return spec


def short(options: dict[str, Any]) -> str:
    return ", ".join(f"{k}={np.array2string(v, threshold=8) if isinstance(v, np.ndarray) else v}"
                     for k, v in options.items())  # fmt: skip


def ranks(life: Life, length: int, *, batched: bool = True) -> dict[str, Any]:
    """Batch size, ranks and tail that fit an epoch of so many rows."""
    size = life.number(1, length) if batched or life.chance(0.8) else None
    if size is not None and life.chance(0.5):
        size = min(size, life.pick((1, 2, 7, 32)))
    world = life.number(1, min(4, length if size is None else size))
    return {
        "batch_size": size,
        "world_size": world,
        "rank": life.number(0, world - 1),
        "tail": life.pick(("partial", "drop", "pad")),
    }


def _seed(life: Life) -> int:
    return life.pick((0, 1, life.number(0, 2**64 - 1)))


def _holds(condition: Any, what: str) -> None:
    if not condition:
        raise AssertionError(what)


def _once(n: int) -> Callable[[np.ndarray], None]:
    def check(rows: np.ndarray) -> None:
        _holds(np.array_equal(np.sort(rows), np.arange(n)), "not every row once")

    return check


def _batch(life: Life) -> Spec:
    n = life.pick((1, 2, 3, 63, 64, 65, life.number(1, 300), life.number(1000, 9000)))
    options: dict[str, Any] = {"n": n, "seed": _seed(life), **ranks(life, n, batched=False)}
    check = _once(n)
    kind = life.pick(("shuffle", "shuffle", "blocks", "pairs", "in order", "replacement"))
    if kind == "in order":
        options["shuffle"] = False
    elif kind == "pairs":
        options["reverse_pairs"] = True
    elif kind == "blocks":
        options |= {"block_size": life.number(1, 40), "blocks_together": life.number(1, 5)}
    elif kind == "replacement":
        length = life.number(1, 2 * n)
        options |= {"replacement": True, "num_samples": length, **ranks(life, length)}

        def check(rows: np.ndarray) -> None:
            _holds(rows.size == length and rows.min() >= 0 and rows.max() < n, "rows")

    return Spec(sf.BatchSampler, options, check)


def _weighted(life: Life) -> Spec:
    n = life.pick((1, 2, 5, 64, life.number(1, 300)))
    weights = life.numbers.random(n) ** 4
    weights[life.numbers.random(n) < 0.3] = 0
    weights[life.rng.randrange(n)] = life.pick((1.0, 1e-300, 1e300, 3.0))
    positive = int((weights > 0).sum())
    options: dict[str, Any] = {"weights": weights, "seed": _seed(life)}
    distinct = life.chance(0.4)
    if distinct:
        length = life.number(1, positive)
        options |= {"replacement": False, "num_samples": length}
    else:
        length = life.pick((n, life.number(1, 400)))
        options["num_samples"] = length
    spec = Spec(sf.WeightedSampler, options | ranks(life, length, batched=False), lambda _: None)

    def check(rows: np.ndarray) -> None:
        now = spec.made().weights
        _holds(rows.size == length and rows.min() >= 0 and rows.max() < n, "rows out of range")
        _holds((now[rows] > 0).all() or now.sum() == np.inf, "a row of weight zero")
        _holds(not distinct or np.unique(rows).size == length, "a row twice")

    spec.check = check
    return spec


def _labels(life: Life) -> tuple[np.ndarray, np.ndarray]:
    classes = life.number(1, 6)
    labels = life.numbers.integers(0, classes, life.number(4, 120))
    labels[0] = classes - 1
    return labels, np.bincount(labels, minlength=classes)


def _balanced(life: Life) -> Spec:
    labels, counts = _labels(life)
    shares = np.where(counts > 0, life.numbers.random(counts.size), 0)
    length = life.number(1, 300)
    options = {"labels": labels, "seed": _seed(life), "num_samples": length}
    if life.chance(0.5) and shares.any():
        options["shares"] = shares

    def check(rows: np.ndarray) -> None:
        _holds(rows.size == length and rows.min() >= 0 and rows.max() < labels.size, "rows")

    return Spec(sf.ClassBalancedSampler, options | ranks(life, length, batched=False), check)


def _stratified(life: Life) -> Spec:
    labels, counts = _labels(life)
    options = {"labels": labels, "seed": _seed(life), **ranks(life, labels.size)}
    size = options["batch_size"]
    once = _once(labels.size)

    def check(rows: np.ndarray) -> None:
        once(rows)
        for begin in range(0, labels.size, size):
            batch = labels[rows[begin : begin + size]]
            got = np.bincount(batch, minlength=counts.size)
            off = np.abs(got * labels.size - batch.size * counts).max()
            _holds(off < labels.size, f"{off / labels.size} rows off the share")

    return Spec(sf.StratifiedSampler, options, check, batched=False)


def _quotas(life: Life) -> Spec:
    labels, counts = _labels(life)
    quotas = np.array([life.number(0, min(int(c), 4)) for c in counts])
    quotas[-1] = max(quotas[-1], 1)
    size, batches = int(quotas.sum()), life.number(1, 12)
    options = {
        "labels": labels,
        "seed": _seed(life),
        **ranks(life, size),
        "batch_size": size,
        "quotas": quotas,
        "num_batches": batches,
    }

    def check(rows: np.ndarray) -> None:
        for batch in rows.reshape(batches, size):
            _holds(np.unique(batch).size == size, "a row twice in a batch")
            got = np.bincount(labels[batch], minlength=quotas.size)
            _holds(np.array_equal(got, quotas), f"quotas {got}, not {quotas}")

    return Spec(sf.StratifiedSampler, options, check, batched=False)


def _groups(life: Life) -> Spec:
    labels, counts = _labels(life)
    per_class = life.number(1, max(1, int(counts.max())))
    short, go_round = life.pick(["repeat", "skip"]), life.chance(0.5)
    most = int((counts >= (1 if short == "repeat" else per_class)).sum())
    classes, batches = life.number(1, most), life.number(1, 10)
    world = life.number(1, min(4, classes * per_class))
    options = {
        "labels": labels,
        "classes_per_batch": classes,
        "rows_per_class": per_class,
        "short": short,
        "go_round": go_round,
        "num_batches": batches,
        "seed": _seed(life),
        "world_size": world,
        "rank": life.number(0, world - 1),
    }

    def check(rows: np.ndarray) -> None:
        for batch in rows.reshape(batches, classes * per_class):
            different = np.minimum(counts[labels[batch[::per_class]]], per_class).sum()
            _holds(np.unique(batch).size == different, "a row too often in a batch")
            got = np.bincount(labels[batch])
            _holds(sorted(got[got > 0]) == [per_class] * classes, "groups")

    return Spec(sf.GroupSampler, options, check, batched=False)


_KINDS: dict[str, Callable[[Life], Spec]] = {
    "batch": _batch,
    "weighted": _weighted,
    "balanced": _balanced,
    "stratified": _stratified,
    "quotas": _quotas,
    "groups": _groups,
}
