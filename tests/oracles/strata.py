"""Classes spread over batches and classes that go round, from their definitions in plain Python."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tests.oracles.sampling import U64, bounded, epoch_key, fisher_yates, philox

STRATA, GROUP = 5, 6  # purposes of keys


class Words:
    """A key's random numbers, one after the other."""

    def __init__(self, key: int) -> None:
        self._words = (
            int(word) for block in range(2**62) for word in philox(U64(key), U64(block), U64(0))
        )

    def below(self, n: int) -> int:
        return next(value for word in self._words if (value := bounded(word, n)) is not None)


def order(n: int, key: int, stream: int) -> list[int]:
    """An order of fewer than 64 things."""
    return fisher_yates(n, int(philox(U64(key), U64(stream), U64(n))[0]))


def rounded(rests: dict[int, int], k: int, words: Words) -> dict[int, int]:
    """Which of the rests / k are rounded up, in the order in which they were looked at."""
    items = list(rests)
    for i in range(len(items), 1, -1):
        j = words.below(i)
        items[i - 1], items[j] = items[j], items[i - 1]
    total = words.below(k) if items else 0
    ups = {}
    for item in items:
        ups[item] = (total + rests[item]) // k - total // k
        total += rests[item]
    return ups


def divided(extras: dict[int, int], k: int, words: Words) -> Iterator[list[int]]:
    """The classes that each of k batches gets a row more of, extras[c] of them of class c."""
    if k == 1:
        yield list(extras)
        return
    half = k // 2
    rests = {c: e * half % k for c, e in extras.items()}
    ups = rounded({c: rest for c, rest in rests.items() if rest > 0}, k, words)
    whole = {c: 0 for c, rest in rests.items() if rest == 0}
    first = {c: extras[c] * half // k + up for c, up in (whole | ups).items()}
    yield from divided({c: e for c, e in first.items() if e > 0}, half, words)
    second = {c: extras[c] - e for c, e in first.items() if e < extras[c]}
    yield from divided(second, k - half, words)


def spread(counts: Sequence[int], size: int, words: Words) -> list[list[int]]:
    """The classes of every batch, before its rows are shuffled."""
    n = sum(counts)
    k, last = divmod(n, size)
    rests = {c: m * last % n for c, m in enumerate(counts)}
    ups = rounded({c: rest for c, rest in rests.items() if rest > 0}, n, words)
    in_last = [m * last // n + ups.get(c, 0) for c, m in enumerate(counts)]
    batches = []
    if k > 0:
        whole = [m * size // n for m in counts]
        left = {c: m - in_last[c] - k * whole[c] for c, m in enumerate(counts)}
        extras = {c: e for c, e in left.items() if e > 0}
        more = divided(extras, k, words) if extras else iter([[]] * k)
        batches = [_repeated(whole) + classes for classes in more]
    return [*batches, _repeated(in_last)] if last > 0 else batches


def _repeated(counts: Sequence[int]) -> list[int]:
    return [c for c, count in enumerate(counts) for _ in range(count)]


def stratified(labels: Sequence[int], size: int, seed: int, epoch: int) -> list[int]:
    """The rows of an epoch of a `StratifiedSampler`."""
    members = [[i for i, c in enumerate(labels) if c == k] for k in range(max(labels) + 1)]
    row_key = int(epoch_key(U64(seed), U64(epoch), STRATA))
    batch_key = int(epoch_key(U64(seed), U64(epoch), STRATA, 1))
    rows = [
        iter([members[c][i] for i in order(len(members[c]), row_key, c)])
        for c in range(len(members))
    ]
    found = []
    for b, classes in enumerate(spread([*map(len, members)], size, Words(batch_key))):
        found += [next(rows[classes[i]]) for i in order(len(classes), batch_key, b)]
    return found


def rounds(classes: int, per_batch: int, count: int, seed: int, epoch: int) -> list[int]:
    """The classes that a `GroupSampler` goes round."""
    words = Words(int(epoch_key(U64(seed), U64(epoch), GROUP, 1)))
    line = list(range(classes))
    found: list[int] = []
    while len(found) < count:
        before = len(found) % per_batch  # classes of the batch from the round before
        others = (per_batch - before) % per_batch
        for i in range(classes):
            j = i + words.below((classes - before if i < others else classes) - i)
            line[i], line[j] = line[j], line[i]
        found += line
    return found[:count]
