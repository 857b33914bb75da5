"""The generator against its published vectors and against NumPy, on every instruction set."""

from __future__ import annotations

import numpy as np
import pytest

from subgrad_fast import _core
from tests.oracles import sampling as reference
from tests.oracles.sampling import join, known_answers


def blocks(words: np.ndarray) -> list[list[int]]:
    return words.view(np.uint32).reshape(-1, 4).tolist()


@pytest.mark.parametrize(("counter", "key", "answer"), known_answers())
def test_known_answers(isa: str, counter: list[int], key: list[int], answer: list[int]) -> None:
    # In every lane: so many blocks before, so many behind.
    for before in (0, 1, 2, 3, 7, 8, 9):
        low = (join(counter[:2]) - before) % 2**64
        words = _core.testing.random_words(join(key), low, join(counter[2:]), before + 3)
        assert blocks(words)[before] == answer


def test_three_vectors_are_known() -> None:
    assert len(known_answers()) == 3


@pytest.mark.parametrize("count", [0, 1, 2, 3, 7, 8, 9, 31, 33, 1000])
def test_words_are_those_of_the_reference(isa: str, count: int) -> None:
    words = _core.testing.random_words(0x1234567890ABCDEF, 2**32 - 5, 2**63 + 9, count)
    counters = np.uint64(2**32 - 5) + np.arange(count, dtype=np.uint64)
    first, second = reference.philox(np.uint64(0x1234567890ABCDEF), counters, np.uint64(2**63 + 9))
    np.testing.assert_array_equal(words[0::2], first)
    np.testing.assert_array_equal(words[1::2], second)


def test_another_number_of_rounds_would_be_seen() -> None:
    counter, key, answer = known_answers()[2]
    for rounds, same in ((9, False), (10, True), (11, False)):
        first, second = reference.philox(
            np.uint64(join(key)), np.uint64(join(counter[:2])), np.uint64(join(counter[2:])), rounds
        )
        assert (blocks(np.array([first, second])) == [answer]) == same
