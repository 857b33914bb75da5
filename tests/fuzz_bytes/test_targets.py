"""The targets on the corpus and on bytes of a fixed seed; and that a search finds what there is."""

from __future__ import annotations

import random
from collections.abc import Iterator

import numpy as np
import pytest

from tests.fuzz_bytes.corpus import read_corpus
from tests.fuzz_bytes.guided import Search, shortest
from tests.fuzz_bytes.targets import TARGETS

RUNS = 500


@pytest.fixture(autouse=True)
def numbers_of_every_kind(threads: object) -> Iterator[None]:
    threads(1)  # type: ignore[operator]
    with np.errstate(all="ignore"):
        yield


@pytest.mark.parametrize("name", TARGETS)
def test_bytes(name: str) -> None:
    corpus = read_corpus(name)
    assert corpus, "no corpus: python -m tests.fuzz_bytes --keep"
    rng = random.Random(7)
    for data in (*corpus, *(rng.randbytes(rng.randrange(1, 96)) for _ in range(RUNS))):
        try:
            TARGETS[name](data)
        except Exception as error:
            raise AssertionError(f"tests.fuzz_bytes {name} --bytes {data.hex()}") from error


def test_a_search_goes_where_bytes_at_random_do_not() -> None:
    """Four bytes that are right one after the other: one in 2**32, or four times one in 256."""
    counts = np.zeros(1 << 16, np.uint8)

    def target(data: bytes) -> None:
        for i, byte in enumerate(b"byte"):
            if data[i : i + 1] != bytes([byte]):
                return
            counts[i] = 1  # as an instrumented module does
        raise ValueError("found")

    def finds(search: Search) -> bool:
        try:
            for _ in range(40_000):
                search.run(search.next())
        except ValueError:
            return True
        return False

    assert finds(Search(target, 1, counts))
    assert not finds(Search(target, 1, None))


def test_what_is_found_is_made_short() -> None:
    assert shortest(bytes(range(90)), lambda data: 77 in data) == bytes([77])
