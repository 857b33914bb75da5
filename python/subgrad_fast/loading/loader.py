"""Batches of arrays in memory: rows that a sampler picks, gathered in one call."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterable, Iterator, Mapping
from typing import Any, Generic, TypeVar, cast
from weakref import WeakSet

from subgrad_fast._core import Turns
from subgrad_fast._core.loading import Ring
from subgrad_fast.loading.fields import Fields
from subgrad_fast.loading.sources import START, At, Counted, Foreign, split
from subgrad_fast.sampling import Sampler
from subgrad_fast.sampling._checks import integer

# Batches of fewer bytes are gathered when they are taken: to hand them to another thread and wait
# for it costs about as much as to copy them.
_BACKGROUND_BYTES = 256 << 10

_STATE_VERSION = 2

Batch = TypeVar("Batch")


class BatchLoader(Generic[Batch]):
    """Iterates over batches of rows of `arrays`, in the order that `sampler` gives.

    ::

        sampler = subgrad_fast.BatchSampler(len(x), 128, seed=0)
        for x_batch, y_batch in subgrad_fast.BatchLoader((x, y), sampler):
            ...

    What goes in comes out: NumPy batches of NumPy arrays, tensors of tensors, in a tuple, list or
    dict like the one given, or alone like an array given alone.

    **A batch is the caller's**: to be kept, written to, sent to other threads and processes. Its
    memory comes from a pool and goes back there when the last array, view or tensor that shows it
    is gone. Of each array the pool keeps, beyond what is held, the batches that are on their way
    and one more, and `close` gives that back too.

    **A pass is an epoch.** Each ``iter()`` begins the next epoch of the sampler, whether or not the
    pass before was gone through to its end. Several passes may be under way at the same time, each
    through its own epoch; `state_dict` speaks of the one begun last.

    Large batches, and those of memory-mapped files, are gathered up to `prefetch` ahead by a
    background thread that never takes the GIL; what is not ready when it is asked for is finished
    with the caller's help. Small batches are gathered when they are taken, which is faster than to
    hand them over. A process made by ``fork()`` has no such thread and gathers all that way.

    Rows may lie at any distance from each other. Arrays whose single rows are not contiguous
    (transposed, Fortran order) and arrays of Python objects are indexed by NumPy in the calling
    thread, which is slower.

    Batches of CUDA tensors are gathered on their device when they are taken, by one kernel in
    torch's current stream; nothing waits for the device. The indices are computed there too if the
    sampler is a shuffling `BatchSampler` or a `WeightedSampler` with replacement, and else sent.
    The batches are those of the CPU's loader.

    Args:
        arrays: an array, or a tuple, list or dict of arrays, of the same length: NumPy
            (memory-mapped too) or torch CPU tensors or both, of any dtype and trailing shape. They
            are read while batches are gathered, so a change to them can show from the next batch
            on, and shows at the latest after `prefetch` more. Tensors become not resizable. Or
            CUDA tensors, all on one device.
        sampler: an iterable of batches of indices (int64 arrays or sequences of ints) that can be
            iterated again for each epoch. Where it yields tuples ``(indices, extra...)``, such as
            indices and the mask of those that are not padding, the loader yields
            ``(batch, extra...)``. It is only used by the thread that iterates over the loader.
        prefetch: how many batches are gathered ahead; >= 1.
        pin: page-locked batches, from which copies to a GPU can be asynchronous. Tensors only.

    Raises:
        TypeError: an argument is not what is described above, or, while iterating, a batch of
            indices is not.
        ValueError: the arrays' lengths differ or are 0, or one of this library's samplers is of
            another number of rows, or `prefetch` < 1, or the memory of an array cannot be reached
            or pinned, or is on another device than that of the first, or there are no kernels for
            its device.
        IndexError: while iterating, an index is negative or too large. Nothing of that batch has
            been copied then, and all batches before it have been yielded.
    """

    def __init__(
        self,
        arrays: Batch,
        sampler: Iterable[Any],
        *,
        prefetch: int = 2,
        pin: bool = False,
    ) -> None:
        self.prefetch = integer("prefetch", prefetch, 1, 2**16)
        if not isinstance(sampler, Iterable):
            raise TypeError(f"sampler: expected an iterable, got {type(sampler).__name__}")
        if isinstance(sampler, Iterator):
            raise TypeError("sampler: an iterator ends after one epoch; pass what it was made from")
        self.arrays = arrays
        self.sampler = sampler
        self.pin = bool(pin)
        self._set_up(START)
        rows = self._fields.rows
        if isinstance(sampler, Sampler) and sampler.n != rows and sampler._of_this_library:
            raise ValueError(f"sampler: is of {sampler.n} rows, but the arrays have {rows}")

    def _set_up(self, at: At) -> None:
        self._fields = Fields(self.arrays, pin=self.pin)
        # The ring of a pass that has ended, for the next, and whether it gathers ahead.
        self._spare: tuple[Ring, bool] | None = None
        self._passes: WeakSet[_Pass[Batch]] = WeakSet()
        # For samplers that are none of ours: where the next pass begins, or who knows where the
        # one stands that was begun last.
        self._at = at
        self._begun: Foreign | None = None

    def __len__(self) -> int:
        """The number of batches of an epoch, as the sampler says."""
        return len(cast("Any", self.sampler))

    def __repr__(self) -> str:
        return f"<BatchLoader of {self._fields}, sampler {self.sampler!r}>"

    def __iter__(self) -> Iterator[Batch]:
        self._fields.check_files()
        source: Counted | Foreign
        if isinstance(self.sampler, Sampler):
            on_gpu = self._fields.device is not None
            source = Counted(self.sampler._begin_for(self._fields.rows, on_gpu=on_gpu))
        else:
            source = Foreign(self.sampler, self._at)
        begun = _Pass(self._iterate(source))
        self._passes.add(begun)
        self.__dict__.update(_at=START, _begun=source if isinstance(source, Foreign) else None)
        return begun

    def _iterate(self, source: Counted | Foreign) -> Generator[Batch, None, None]:
        first = _Drawn(source)
        if first.error is not None:
            return first.finish(source)
        ring, background = self._ring_for(first)
        try:
            # The size of the first batch decides for the epoch.
            if background:
                yield from self._gathered_ahead(ring, source, first)
            else:
                yield from self._gathered_in_turn(ring, source, first)
        finally:
            ring.cancel()
            self._spare = ring, background

    def _ring_for(self, first: _Drawn) -> tuple[Ring, bool]:
        fields = self._fields
        rows = len(first.indices) if hasattr(first.indices, "__len__") else 0
        background = fields.mapped or rows * fields.row_bytes >= _BACKGROUND_BYTES
        spare, self._spare = self._spare, None  # a second pass at the same time gets its own
        if spare is not None and spare[1] == background:
            return spare
        slots = self.prefetch + 1 if background else 1
        ring = Ring(fields.fields, fields.rows, slots, self.prefetch + 1, fields.pack, fields.like)
        return ring, background

    @staticmethod
    def _gathered_in_turn(
        ring: Ring, source: Counted | Foreign, first: _Drawn
    ) -> Generator[Any, None, None]:
        """Each batch is gathered when it is taken."""
        gather, draw, count = ring.gather, source.draw, source.count

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
        self, ring: Ring, source: Counted | Foreign, first: _Drawn
    ) -> Generator[Any, None, None]:
        """Batches are gathered before they are taken. Errors wait for their turn."""
        ahead = deque([first.submit(ring)])
        while True:
            while ahead[-1].error is None and len(ahead) <= self.prefetch:
                ahead.append(_Drawn(source).submit(ring))
            drawn = ahead.popleft()
            if drawn.error is not None:
                return drawn.finish(source)
            yield drawn.taken(ring, source)

    def close(self) -> None:
        """Ends the passes under way and gives back the thread and all memory that no batch holds.

        The loader may be gone through again, and then takes them anew. Leaving a ``with`` block
        over the loader does the same, and so does letting go of it.
        """
        for begun in list(self._passes):
            begun.close()
        self._spare = None

    def __enter__(self) -> BatchLoader[Batch]:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __getstate__(self) -> dict[str, Any]:
        """For copies and pickles, which go on where this one stands."""
        kept = ("arrays", "sampler", "prefetch", "pin")
        return {**{name: self.__dict__[name] for name in kept}, "_at": self._where()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._set_up(state["_at"])

    # --- state -----------------------------------------------------------------------------------

    def _where(self) -> At:
        """Where the next batch of a sampler comes from that is none of ours."""
        return self._at if self._begun is None else self._begun.at

    def state_dict(self) -> dict[str, Any]:
        """Where the caller is: batches that were gathered ahead but not taken do not count.

        Holds the sampler's state. One of ours may be asked itself, with the same answer; that of
        another is the one from before the next batch was drawn. For a sampler without
        ``state_dict`` the number of batches taken has to do, and the sampler to repeat its order.
        """
        sampler = self.sampler
        if isinstance(sampler, Sampler):
            state: Any = sampler.state_dict()
            batches = -(-state["position"] // sampler._rows_per_batch)
        else:
            state, batches = self._where()
            if state is None and hasattr(sampler, "state_dict"):
                state = sampler.state_dict()
        return {"version": _STATE_VERSION, "sampler": state, "batches": batches}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Has the next pass go on where `state_dict` was called.

        Raises:
            TypeError, ValueError: the state is incomplete, of another version, or of another kind
                of sampler. Nothing has changed then.
        """
        if not isinstance(state, Mapping):
            raise TypeError(f"state: expected a dict, got {type(state).__name__}")
        missing = {"version", "sampler", "batches"} - set(state)
        if missing:
            raise ValueError(f"state: {', '.join(sorted(missing))} missing")
        if state["version"] != _STATE_VERSION:
            raise ValueError(
                f"state['version']: expected {_STATE_VERSION}, got {state['version']!r}"
            )
        batches = integer("state['batches']", state["batches"], 0, 2**63)
        load = getattr(self.sampler, "load_state_dict", None)
        if (load is None) != (state["sampler"] is None):
            raise ValueError("state['sampler']: does not belong to a sampler like this one")
        if load is not None:
            load(state["sampler"])
        self.__dict__.update(_at=At(None, batches), _begun=None)

    def set_epoch(self, epoch: int) -> None:
        """Passes `epoch` on to the sampler.

        Raises:
            TypeError: the sampler has no ``set_epoch``.
        """
        set_epoch = getattr(self.sampler, "set_epoch", None)
        if set_epoch is None:
            raise TypeError(f"sampler: a {type(self.sampler).__name__} has no set_epoch")
        set_epoch(epoch)
        self.__dict__.update(_at=START, _begun=None)


class _Pass(Iterator[Batch]):
    """One iteration. Threads that share it get one batch after the other."""

    def __init__(self, batches: Generator[Batch, None, None]) -> None:
        self._turns = Turns()
        self._batches = batches

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

    def __init__(self, source: Counted | Foreign) -> None:
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

    def taken(self, ring: Ring, source: Counted | Foreign) -> Any:
        """The batch, which is counted."""
        batch = ring.take(self.slot)
        source.count()
        return (batch, *self.extra) if self.extra else batch

    def finish(self, source: Counted | Foreign) -> None:
        error, self.error = self.error, None
        if isinstance(error, StopIteration):
            source.finish()
        else:
            try:
                raise cast("Exception", error)
            finally:
                del error  # or its frames would hold it
