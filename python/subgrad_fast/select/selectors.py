"""How a thresholded step decides what is large enough: small objects that hold no arrays."""

from __future__ import annotations

from dataclasses import dataclass, field
from operator import index
from typing import Any, ClassVar, TypeAlias

from subgrad_fast import _core
from subgrad_fast._arguments import integer, number, quoted


def check_density(density: Any, name: str = "density") -> float:
    """`density` as a float of [0, 1]. Raises TypeError or ValueError."""
    if not 0.0 <= (share := number(name, density)) <= 1.0:  # so that NaN is refused too
        raise ValueError(f"{name}: expected a number from 0 to 1, got {quoted(density)}")
    return share


def check_threshold(threshold: Any) -> float:
    """`threshold` as a float >= 0. Raises TypeError or ValueError."""
    if not (least := number("threshold", threshold)) >= 0.0:
        raise ValueError(f"threshold: expected a number >= 0, got {quoted(threshold)}")
    return least


@dataclass(frozen=True)
class Absolute:
    """Keeps every magnitude of at least `threshold`, and every NaN. One pass over memory."""

    name: ClassVar[str] = "absolute"
    threshold: float

    def __post_init__(self) -> None:
        check_threshold(self.threshold)

    @property
    def choice(self) -> _core.threshold.Choice:
        """The same as the kernels take it."""
        return _core.threshold.Choice("absolute", float(self.threshold), None, None)


@dataclass(frozen=True)
class Exact:
    """Keeps exactly the k largest magnitudes, the first ones of those that tie; NaN is largest.

    `density` means ``max(1, floor(density * n + 0.5))`` of n elements, and of fewer than k elements
    all are kept. Two passes over memory: the
    residuals of all tensors must be complete before the k-th largest is known.
    """

    name: ClassVar[str] = "exact"
    density: float | None = None
    k: int | None = None

    def __post_init__(self) -> None:
        if self.density is not None:
            check_density(self.density)
        if self.k is not None:
            integer("k", self.k)
        if (self.density is None) == (self.k is None):
            raise ValueError("Exact: expected one of density and k")

    @property
    def choice(self) -> _core.threshold.Choice:
        """The same as the kernels take it."""
        density = None if self.density is None else float(self.density)
        k = None if self.k is None else index(self.k)
        return _core.threshold.Choice("exact", None, density, k)


@dataclass(frozen=True)
class Sampled:
    """Keeps half to twice the share `density`: the threshold is that of a sample, before the pass.

    One cache line in 64 is sampled, of few elements more: at least 65,536, and so many that about
    32 lines' worth is kept, or else all. Which ones is fixed by sizes and density, so the same data
    give the same threshold. Of elements that tie at it the first are kept. Zeros are never kept.
    """

    name: ClassVar[str] = "sampled"
    density: float

    def __post_init__(self) -> None:
        check_density(self.density)

    @property
    def choice(self) -> _core.threshold.Choice:
        """The same as the kernels take it."""
        return _core.threshold.Choice("sampled", None, float(self.density), None)


@dataclass(frozen=True)
class Reused:
    """Keeps half to twice the share `density`, with the last step's threshold, corrected.

    The correction is ``threshold * (kept / wanted) ** (1 / 8)``: small, as residuals that were not
    kept grow. The first time, and where a sample says that it would keep less than 2/3 or more than
    3/2 of what is wanted, the threshold is estimated as `Sampled` does.

    `thresholds` is the state that `threshold_step` keeps, one entry for each scope; ``None`` and an
    empty list stand for an estimate. The optimizer keeps that state in its own ``state_dict``.
    """

    name: ClassVar[str] = "reused"
    density: float
    thresholds: list[float | None] = field(default_factory=list, compare=False)

    def __post_init__(self) -> None:
        check_density(self.density)
        if not isinstance(self.thresholds, list):
            raise TypeError(f"thresholds: expected a list, got {type(self.thresholds).__name__}")

    @property
    def choice(self) -> _core.threshold.Choice:
        """The same as the kernels take it."""
        return _core.threshold.Choice("reused", None, float(self.density), None)


Selector: TypeAlias = Absolute | Exact | Sampled | Reused


def make_selector(
    selector: Selector | str | None,
    threshold: float | None,
    density: float | None,
    k: int | None = None,
) -> Selector:
    """The selector that arguments of these names ask for.

    Raises:
        ValueError: not exactly one of the numbers, or one that the named selector has no use for.
        TypeError: `selector` is neither a selector nor a name.
    """
    if threshold is not None:
        check_threshold(threshold)
    if density is not None:
        check_density(density)
    if k is not None:
        integer("k", k)
    numbers = [
        n for n, x in (("threshold", threshold), ("density", density), ("k", k)) if x is not None
    ]
    if isinstance(selector, Selector):
        if numbers:
            raise ValueError(f"{numbers[0]}: has no meaning beside a selector, which has its own")
        return selector
    if selector is not None and not isinstance(selector, str):
        raise TypeError(f"selector: expected a selector or its name, got {type(selector).__name__}")
    if len(numbers) != 1:
        given = " and ".join(numbers) or "none"
        raise ValueError(f"threshold, density, k: expected exactly one of them, got {given}")
    wanted = {
        "absolute": ["threshold"],
        "exact": ["density", "k"],
        None: ["threshold", "density", "k"],
        "sampled": ["density"],
        "reused": ["density"],
    }
    if selector not in wanted:
        raise ValueError(
            f"selector: expected 'absolute', 'exact', 'sampled' or 'reused', got {selector!r}"
        )
    if numbers[0] not in wanted[selector]:
        raise ValueError(
            f"{numbers[0]}: selector {selector!r} takes {' or '.join(wanted[selector])}"
        )
    if threshold is not None:
        return Absolute(threshold)
    if selector in ("sampled", "reused"):
        assert density is not None
        return Sampled(density) if selector == "sampled" else Reused(density)
    return Exact(density, k)
