"""Passes over rows in memory: batches gathered ahead by a background thread, or when taken."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterator
from functools import partial
from typing import Any, Generic, TypeAlias, TypeVar, cast
from weakref import WeakSet

from subgrad_fast._core import Turns
from subgrad_fast._core.loading import Ring
from subgrad_fast.loading.fields import Fields
from subgrad_fast.loading.sources import Source, split

# Batches of fewer bytes are gathered when they are taken: to hand them to another thread and wait
# for it costs about as much as to copy them.
_BACKGROUND_BYTES = 256 << 10

Batch = TypeVar("Batch")
Collate: TypeAlias = "Callable[[Callable[[Any], Any], Any], Any]"


class Gatherer(Generic[Batch]):
    """Gathers the batches that sources draw, up to `prefetch` ahead; none ahead if that is 0."""

    def __init__(self, fields: Fields, prefetch: int) -> None:
        self._fields = fields
        self._prefetch = prefetch
        # The ring of a pass that has ended, for the next, and whether it gathers ahead.
        self._spare: tuple[Ring, bool] | None = None
        self._passes: WeakSet[GatherPass[Batch]] = WeakSet()

    def begin(
        self, source: Source, length: Callable[[], int], collate: Collate | None = None
    ) -> GatherPass[Batch]:
        """Begins a pass over the batches that `source` draws.

        Args:
            source: draws indices.
            length: tells how many batches there are.
            collate: is called with what gathers rows and with what was drawn, and makes the batch.
                Nothing is gathered ahead then.
        """
        begun = GatherPass(self._iterate(source, collate), length)
        self._passes.add(begun)
        return begun

    def check_files(self) -> None:
        """As `Fields.check_files`: for whoever begins a pass, before anything is drawn."""
        self._fields.check_files()

    def close(self) -> None:
        """Ends the passes under way and gives back all that no batch holds."""
        for begun in list(self._passes):
            begun.close()
        self._spare = None

    def _iterate(self, source: Source, collate: Collate | None) -> Generator[Batch, None, None]:
        first = _Drawn(source)
        if first.error is not None:
            return first.finish(source)
        ring, background = self._ring_for(first, ahead=collate is None and self._prefetch > 0)
        try:
            # The size of the first batch decides for the epoch.
            if background:
                yield from self._gathered_ahead(ring, source, first)
            else:
                gather = ring.gather if collate is None else partial(collate, ring.gather)
                yield from self._gathered_in_turn(gather, source, first)
        finally:
            ring.cancel()
            self._spare = ring, background

    def _ring_for(self, first: _Drawn, *, ahead: bool) -> tuple[Ring, bool]:
        fields = self._fields
        rows = len(first.indices) if hasattr(first.indices, "__len__") else 0
        large = fields.mapped or rows * fields.row_bytes >= _BACKGROUND_BYTES
        background = ahead and large
        spare, self._spare = self._spare, None  # a second pass at the same time gets its own
        if spare is not None and spare[1] == background:
            return spare
        slots = self._prefetch + 1 if background else 1
        ring = Ring(fields.fields, fields.rows, slots, slots + 1, fields.pack, fields.like)
        return ring, background

    @staticmethod
    def _gathered_in_turn(
        gather: Callable[[Any], Any], source: Source, first: _Drawn
    ) -> Generator[Any, None, None]:
        """Each batch is gathered when it is taken."""
        draw, count = source.draw, source.count

        def gathered(item: Any) -> Any:
            indices, extra = split(item) if type(item) is tuple else (item, ())
            batch = gather(indices)
            count()
            return (batch, *extra) if extra else batch

        item = first.item
        try:
            while True:
                yield gathered(item)
                item = draw()
        except StopIteration:
            source.finish()

    def _gathered_ahead(
        self, ring: Ring, source: Source, first: _Drawn
    ) -> Generator[Any, None, None]:
        """Batches are gathered before they are taken. Errors wait for their turn."""
        ahead = deque([first.submit(ring)])
        while True:
            while ahead[-1].error is None and len(ahead) <= self._prefetch:
                ahead.append(_Drawn(source).submit(ring))
            drawn = ahead.popleft()
            if drawn.error is not None:
                return drawn.finish(source)
            yield drawn.taken(ring, source)


class GatherPass(Iterator[Batch]):
    """One iteration. Threads that share it get one batch after the other."""

    def __init__(self, batches: Generator[Batch, None, None], length: Callable[[], int]) -> None:
        self._turns = Turns()
        self._batches = batches
        self._length = length

    def __len__(self) -> int:
        """The number of batches of the whole epoch."""
        return self._length()

    def __next__(self) -> Batch:
        with self._turns:
            return next(self._batches)

    def close(self) -> None:
        """Ends it."""
        with self._turns:
            self._batches.close()


class _Drawn:
    """What a sampler gave at one turn: a batch or an error, its end among them."""

    __slots__ = ("error", "extra", "indices", "item", "slot")

    def __init__(self, source: Source) -> None:
        self.item: Any = None
        self.error: Exception | None = None
        try:
            self.item = source.draw_ahead()
        except StopIteration as end:
            self.error = end.with_traceback(None)  # whose frames would hold this
        except Exception as error:  # noqa: BLE001  raised when it is its turn
            self.error = error
        self.indices, self.extra = split(self.item)

    def submit(self, ring: Ring) -> _Drawn:
        if self.error is None:
            try:
                self.slot = ring.submit(self.indices)
            except Exception as error:  # noqa: BLE001  raised when it is its turn
                self.error = error
        return self

    def taken(self, ring: Ring, source: Source) -> Any:
        """The batch, which is counted."""
        batch = ring.take(self.slot)
        source.count()
        return (batch, *self.extra) if self.extra else batch

    def finish(self, source: Source) -> None:
        error, self.error = self.error, None
        if isinstance(error, StopIteration):
            source.finish()
        else:
            try:
                raise cast("Exception", error)
            finally:
                del error  # or its frames would hold it
