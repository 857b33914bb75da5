"""Rows drawn in proportion to weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from subgrad_fast import _core
from subgrad_fast._arguments import flag, integer
from subgrad_fast._arrays import Array
from subgrad_fast.sampling._checks import Indices, indices, output, reals, stretch
from subgrad_fast.sampling.sampler import Sampler, Tail


class _Order(NamedTuple):
    """The rows of one epoch without replacement."""

    rows: Indices
    updates: int  # that the weights had seen when it was drawn, or fewer


class WeightedSampler(Sampler):
    """Row i with probability ``weights[i] / sum(weights)``: an alias table, one lookup a draw.

    Probabilities are integers inside: a weight of zero is never drawn, any number of weights is
    allowed, and the same rows come on every processor and number of threads. Of n rows, one whose
    share of the sum of the weights is p comes with a probability within ``max(1, n * p) * 2**-56``
    of p, after updates too. Without replacement weights may lie as far apart as float64 has them.

    Iterating goes through epochs of `num_samples` rows (see `Sampler`: batches, ranks, states);
    `draw` gives as many as wanted.

    Args:
        weights: one number >= 0 a row, not all zero: what NumPy takes as an array of real numbers,
            or a tensor of any device. Copied.
        batch_size: rows in a batch, of all ranks together; None yields single rows.
        seed: which draws.
        replacement: draw from all rows every time. Otherwise each row at most once an epoch (and
            once a `draw`), the next one always in proportion to the weights of those that are left.
        num_samples: rows in an epoch; by default as many as there are weights (without replacement:
            as there are positive weights).
        rank, world_size, tail: see `BatchSampler`.

    Raises ValueError for weights that are negative, NaN, infinite or all zero, naming the first.
    """

    def __init__(
        self,
        weights: Array,
        batch_size: int | None = None,
        *,
        seed: int | None = 0,
        replacement: bool = True,
        num_samples: int | None = None,
        rank: int = 0,
        world_size: int = 1,
        tail: Tail = "partial",
    ) -> None:
        array = reals("weights", weights)
        if array.ndim != 1 or array.size == 0:
            raise ValueError(
                f"weights: expected one a row (1-d, not empty), got shape {array.shape}"
            )
        self.n = array.size
        self.replacement = flag("replacement", replacement)
        self._weights = _core.sampling.Weights(array, None)
        most = None if self.replacement else self._weights.positive
        if num_samples is None:
            num_samples = self.n if most is None else most
        length = integer("num_samples", num_samples, 1, most)
        super().__init__(length, batch_size, seed=seed, rank=rank, world_size=world_size, tail=tail)
        self._drawn = 0
        self._orders: dict[tuple[int, int], _Order] = {}  # by seed and epoch
        self._updates = 0

    def rows(self, epoch: int, start: int, count: int) -> Indices:
        epoch, start, count = stretch(epoch, start, count)
        if not self.replacement:
            return self._whole_epoch(epoch)[start : start + count].copy()
        out = np.empty(count, np.int64)
        self._weights.draw(self.seed, epoch, start, True, out)
        return out

    @property
    def _on_gpu(self) -> bool:
        return self.replacement and type(self).rows is WeightedSampler.rows

    def _write(self, epoch: int, start: int, out: Array) -> None:
        self._weights.draw(self.seed, epoch, start, True, out)

    def _whole_epoch(self, epoch: int) -> Indices:
        key = (self.seed, epoch)
        order = self._orders.get(key)
        if order is None or (order.updates != self._updates and key not in self._begun()):
            if self.length > self._weights.positive:
                raise ValueError(
                    f"num_samples: {self.length} rows without replacement, but only "
                    f"{self._weights.positive} weights are positive now"
                )
            order = _Order(np.empty(self.length, np.int64), self._updates)
            self._weights.draw_distinct(self.seed, epoch, True, order.rows)
            self._orders = {**self._begun(), key: order}
        return order.rows

    def _begun(self) -> dict[tuple[int, int], _Order]:
        """The order of the epoch in progress: after an update it could not be drawn again."""
        key = (self.seed, self.epoch)
        return {key: self._orders[key]} if self.position > 0 and key in self._orders else {}

    def draw(self, n: int, *, out: Array | None = None) -> Indices:
        """The next n rows of an endless stream, apart from the epochs; int64, into `out` if given.

        A CUDA tensor as `out` is filled in torch's current stream: drawn there from a table that is
        put on the device once, or drawn here and sent, if without replacement or after an `update`.
        Without replacement they are different from each other, and n is at most the number of
        positive weights.
        """
        most = None if self.replacement else self._weights.positive
        n = integer("n", n, 0, most)
        rows = output(out, n)
        with self._turns:
            if self.replacement:
                self._weights.draw(self.seed, 0, self._drawn, False, rows)
            else:
                self._weights.draw_distinct(self.seed, self._drawn, False, rows)
            self._drawn += n
        return rows  # type: ignore[no-any-return]

    def update(self, indices_: Array, weights: Array) -> None:
        """Sets weights in O(log n) each; all or none if one is wrong. The last of
        repeated rows counts.

        (The first update, and one that changes the sum by many powers of two, take O(n).)

        From the first update on draws take O(log n) too, and are other draws than before. Batches
        that were already computed ahead, and an epoch without replacement that has begun, keep the
        old weights: update between epochs, or use `draw`. Such an epoch's order is in no state, so
        `state_dict` raises ValueError from the update to the end of the epoch.
        """
        rows = np.atleast_1d(indices("indices", indices_, self.n))
        values = reals("weights", weights)
        if rows.ndim != 1 or values.shape not in (rows.shape, ()):
            raise ValueError(
                f"weights: expected one, or one for each of {rows.size} indices, got {values.shape}"
            )
        with self._turns:
            if not self.replacement and self.position > 0:  # as after load_state_dict
                self._whole_epoch(self.epoch)
            self._weights.update(rows, np.ascontiguousarray(np.broadcast_to(values, rows.shape)))
            self._updates += 1
            self._orders = self._begun()

    @property
    def weights(self) -> npt.NDArray[np.float64]:
        """A copy of the weights as they are now."""
        return self._weights.values()

    def importance_weights(self, rows: Array) -> npt.NDArray[np.float64]:
        """``1 / (n * p)`` of drawn rows: the mean of losses times these estimates the plain mean.

        With replacement, that is; infinite for a row of weight zero, which is never drawn.
        """
        places = indices("rows", rows, self.n)
        out = np.empty(places.shape)
        self._weights.importance(places.reshape(-1), out.reshape(-1))
        return out

    def _state(self, epoch: int, position: int) -> dict[str, int]:
        order = self._orders.get((self.seed, epoch))
        old = order is not None and order.updates != self._updates
        if old and 0 < position < self.length:
            raise ValueError(
                f"weights: changed by update() within epoch {epoch}, which goes on in the order of "
                "the weights before, and no state holds that; update between epochs, or save before"
            )
        state = {**super()._state(epoch, position), "drawn": self._drawn}
        if self._weights.changed:
            state["exponent"] = self._weights.exponent  # of the scale of the updated weights
        return state

    def _own_state(self, state: Mapping[str, Any]) -> dict[str, Any]:
        drawn = integer("state['drawn']", state.get("drawn", 0), 0, 2**63 - 1)
        exponent = state.get("exponent")
        if exponent is not None:
            exponent = integer("state['exponent']", exponent, -1200, 1200)
        weights = self._weights
        if exponent != (weights.exponent if weights.changed else None):
            weights = _core.sampling.Weights(weights.values(), exponent)
        if weights.changed and weights.exponent != exponent:
            raise ValueError(
                f"state['exponent']: {exponent}, which is that of other weights; give the sampler "
                "the updated weights before it loads the state"
            )
        return {"_drawn": drawn, "_weights": weights, "_orders": {}}
