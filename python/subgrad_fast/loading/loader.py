"""Batches of arrays in memory: rows that a sampler picks, gathered in one call."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any, NamedTuple, cast

import numpy as np

from subgrad_fast._arrays import Array
from subgrad_fast._core import Turns
from subgrad_fast.loading.fields import Fields
from subgrad_fast.loading.ring import Ring
from subgrad_fast.sampling import Sampler
from subgrad_fast.sampling._checks import integer

# Batches of fewer bytes are gathered when they are taken: to hand them to another thread and wait
# for it costs about as much as to copy them.
_BACKGROUND_BYTES = 256 << 10

_STATE_VERSION = 1


class BatchLoader:
    """Iterates over batches of rows of `arrays`, in the order that `sampler` gives.

    ::

        sampler = subgrad_fast.BatchSampler(len(x), 128, seed=0)
        for x_batch, y_batch in subgrad_fast.BatchLoader((x, y), sampler):
            ...

    What goes in comes out: NumPy batches of NumPy arrays, tensors of tensors, in a tuple, list or
    dict like the one given, or alone like an array given alone.

    **Batches are reused.** A batch is valid until `prefetch` more have been taken; after that its
    arrays hold another batch. They may be written to, but not given another shape in place. Copy
    what is kept for longer, or pass ``copy=True``. Autograd notices when a tensor that it saved has
    been overwritten, and raises.

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
    The batches are those of the CPU's loader. Take all of them in one stream, or have the others
    wait.

    Several iterations may run at the same time, each with its own buffers, but they share the
    sampler, and `state_dict` speaks of the one begun last.

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
        prefetch: how many batches are gathered ahead, and how many stay valid; >= 1.
        pin: page-locked buffers, from which copies to a GPU can be asynchronous. Tensors only.
        copy: new arrays for each batch, which are the caller's to keep.

    Raises:
        TypeError: an argument is not what is described above, or, while iterating, a batch of
            indices is not.
        ValueError: the arrays' lengths differ or are 0, or `prefetch` < 1, or the memory of an
            array cannot be reached or pinned, or is on another device than that of the first, or
            there are no kernels for its device.
        IndexError: while iterating, an index is negative or too large. Nothing of that batch has
            been copied then, and all batches before it have been yielded.
    """

    def __init__(
        self,
        arrays: Array | tuple[Array, ...] | list[Array] | Mapping[Any, Array],
        sampler: Iterable[Any],
        *,
        prefetch: int = 2,
        pin: bool = False,
        copy: bool = False,
    ) -> None:
        if prefetch < 1 or prefetch != int(prefetch):
            raise ValueError(f"prefetch: expected a number of batches >= 1, got {prefetch}")
        if not isinstance(sampler, Iterable):
            raise TypeError(f"sampler: expected an iterable, got {type(sampler).__name__}")
        if isinstance(sampler, Iterator):
            raise TypeError("sampler: an iterator ends after one epoch; pass what it was made from")
        self.sampler = sampler
        self._fields = Fields(arrays, pin=pin)
        self._prefetch = int(prefetch)
        self._copy = copy
        self._spare: Ring | None = None  # the ring of the last epoch, for the next
        self._at = _START
        self._resume = _START  # where the next iteration begins

    def __len__(self) -> int:
        """The number of batches of an epoch, as the sampler says."""
        return len(cast("Any", self.sampler))

    def __iter__(self) -> Iterator[Any]:
        return _Pass(self._iterate())

    def _iterate(self) -> Generator[Any, None, None]:
        self._fields.check_files()
        sampler, (_, taken) = self.sampler, self._resume
        if isinstance(sampler, Sampler):
            taken = -(-sampler._start() // sampler._rows_per_batch)
        batches = self._batches()
        if not hasattr(sampler, "state_dict"):
            for _ in islice(batches, taken):
                pass
        self.__dict__.update(_resume=_START, _at=_At(None, taken))
        first = self._draw(batches)
        if first.error is not None:
            self._at = _START
            return first.finish()
        ring = self._ring_for(first)
        try:
            # The size of the first batch decides for the epoch.
            if ring.background:
                yield from self._prefetched(ring, first, batches)
            else:
                yield from self._in_turn(ring, first, batches)
        finally:
            ring.cancel()
            self._spare = ring
        self._at = _START

    def _batches(self) -> Iterator[Any]:
        """The sampler's: of indices, or of what computes them where the arrays are."""
        sampler = self.sampler
        if self._fields.device is not None and isinstance(sampler, Sampler):
            return sampler._batches_for_gpu(self._fields.rows)
        return iter(sampler)

    def _ring_for(self, first: _Drawn) -> Ring:
        indices, _ = _split(first.item)
        rows = len(indices) if hasattr(indices, "__len__") else 0
        fields = self._fields
        background = fields.mapped or rows * fields.row_bytes >= _BACKGROUND_BYTES
        ring, self._spare = self._spare, None  # a second iterator at the same time gets its own
        if ring is not None and ring.background == background:
            return ring
        # In the background as many are filled as are still valid.
        slots = 2 * self._prefetch if background else self._prefetch
        return Ring(fields, slots, background=background, copy=self._copy)

    def _in_turn(self, ring: Ring, first: _Drawn, batches: Iterator[Any]) -> Iterator[Any]:
        """Each batch is gathered when it is taken."""
        gather, taken = ring.gather, self._at.taken
        for item in chain([first.item], batches):
            if type(item) is tuple:
                indices, extra = _split(item)
                batch = gather(indices)
                if extra:
                    batch = (batch, *extra)
            else:
                batch = gather(item)
            taken += 1
            self._at = _At(None, taken)
            yield batch

    def _prefetched(self, ring: Ring, first: _Drawn, batches: Iterator[Any]) -> Iterator[Any]:
        """Batches are gathered before they are taken. Errors wait for their turn."""
        taken = self._at.taken
        self._at = _At(first.state, taken)
        ahead = deque([first.submit(ring)])
        while True:
            while ahead[-1].error is None and len(ahead) <= self._prefetch:
                ahead.append(self._draw(batches).submit(ring))
            drawn = ahead[0]
            if drawn.error is None:
                batch = ring.wait(drawn.slot)
            ahead.popleft()
            if drawn.error is not None:
                return drawn.finish()
            taken += 1
            # In one change: what is taken is counted, whatever interrupts.
            self._at = _At(ahead[0].state if ahead else self._sampler_state(), taken)
            yield (batch, *drawn.extra) if drawn.extra else batch

    def _draw(self, batches: Iterator[Any]) -> _Drawn:
        drawn = _Drawn(self._sampler_state())
        try:
            drawn.item = next(batches)
        except Exception as error:  # noqa: BLE001  raised when it is its turn
            drawn.error = error
        return drawn

    def _sampler_state(self) -> Any:
        state_dict = getattr(self.sampler, "state_dict", None)
        return None if state_dict is None else state_dict()

    def state_dict(self) -> dict[str, Any]:
        """Where the caller is: batches that were gathered ahead but not taken do not count.

        They do in the sampler's own state, so an iteration that is left within `prefetch` batches
        of its end may be a whole epoch to the sampler; `set_epoch` puts that right.

        Holds the sampler's state as it was before the next batch was drawn. For a sampler without
        ``state_dict`` the number of batches taken has to do, and the sampler to repeat its order.
        """
        at = self._at if self._resume is _START else self._resume
        state = self._sampler_state() if at.state is None else at.state
        return {"version": _STATE_VERSION, "sampler": state, "batches": at.taken}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Has the next iteration go on where `state_dict` was called.

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
        self.__dict__.update(_resume=_At(None, batches), _at=_START)

    def set_epoch(self, epoch: int) -> None:
        """Passes `epoch` on to the sampler.

        Raises:
            TypeError: the sampler has no ``set_epoch``.
        """
        set_epoch = getattr(self.sampler, "set_epoch", None)
        if set_epoch is None:
            raise TypeError(f"sampler: a {type(self.sampler).__name__} has no set_epoch")
        set_epoch(epoch)
        self.__dict__.update(_resume=_START, _at=_START)


def _split(item: Any) -> tuple[Any, tuple[Any, ...]]:
    """What a sampler yielded, as indices and what came with them."""
    if isinstance(item, tuple) and item and not isinstance(item[0], int | np.integer):
        return item[0], item[1:]
    return item, ()


class _At(NamedTuple):
    """Where the caller is."""

    state: Any  # the sampler's before the next batch; None: it is to be asked
    taken: int  # batches of this epoch


_START = _At(None, 0)


class _Pass(Iterator[Any]):
    """One iteration. Threads that share it get one batch after the other."""

    def __init__(self, batches: Generator[Any, None, None]) -> None:
        self._turns = Turns()
        self._batches = batches

    def __next__(self) -> Any:
        with self._turns:
            return next(self._batches)

    def close(self) -> None:
        """Ends it. Nothing is written to its batches any more."""
        with self._turns:
            self._batches.close()


@dataclass(slots=True)
class _Drawn:
    """What the sampler gave at one turn: a batch or an error, its end among them."""

    state: Any  # the sampler's before it was asked
    item: Any = None
    slot: int = -1
    extra: tuple[Any, ...] = ()
    error: Exception | None = None

    def submit(self, ring: Ring) -> _Drawn:
        if self.error is None:
            try:
                indices, self.extra = _split(self.item)
                self.slot = ring.submit(indices)
            except Exception as error:  # noqa: BLE001  raised when it is its turn
                self.error = error
        return self

    def finish(self) -> None:
        if self.error is not None and not isinstance(self.error, StopIteration):
            raise self.error
