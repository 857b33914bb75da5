"""Batches of arrays in memory: rows that a sampler picks, gathered in one call."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Generic, cast

from subgrad_fast._arguments import check_state, flag, integer
from subgrad_fast.loading.fields import Fields
from subgrad_fast.loading.gathering import Batch, Gatherer
from subgrad_fast.loading.sources import START, At, Counted, Foreign, Source
from subgrad_fast.sampling import Sampler

_STATE_VERSION = 2


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
            CUDA tensors, all on one device. Arrays and tables of other libraries (pandas, polars,
            pyarrow, JAX) are taken where they show their memory to NumPy without a copy, and
            give NumPy batches.
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
        self.pin = flag("pin", pin)
        self._set_up(START)
        rows = self._fields.rows
        if isinstance(sampler, Sampler) and sampler.n != rows and sampler._of_this_library:
            raise ValueError(f"sampler: is of {sampler.n} rows, but the arrays have {rows}")

    def _set_up(self, at: At) -> None:
        self._fields = Fields(self.arrays, pin=self.pin)
        self._gatherer: Gatherer[Batch] = Gatherer(self._fields, self.prefetch)
        # For samplers that are none of ours: where the next pass begins, or who knows where the
        # one stands that was begun last.
        self._at = at
        self._begun: Foreign | None = None

    def __len__(self) -> int:
        """The number of batches of an epoch, as the sampler says."""
        return len(cast("Any", self.sampler))

    @property
    def batch_sampler(self) -> Iterable[Any]:
        """`sampler`, by torch's name for what gives batches, which Lightning asks for."""
        return self.sampler

    def __repr__(self) -> str:
        return f"<BatchLoader of {self._fields}, sampler {self.sampler!r}>"

    def __iter__(self) -> Iterator[Batch]:
        self._gatherer.check_files()
        source: Source
        if isinstance(self.sampler, Sampler):
            on_gpu = self._fields.device is not None
            source = Counted(self.sampler._begin_for(self._fields.rows, on_gpu=on_gpu))
        else:
            source = Foreign(self.sampler, self._at)
        begun = self._gatherer.begin(source, self.__len__)
        self.__dict__.update(_at=START, _begun=source if isinstance(source, Foreign) else None)
        return begun

    def close(self) -> None:
        """Ends the passes under way and gives back the thread and all memory that no batch holds.

        The loader may be gone through again, and then takes them anew. Leaving a ``with`` block
        over the loader does the same, and so does letting go of it.
        """
        self._gatherer.close()

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
        check_state(state, _STATE_VERSION, {"sampler", "batches"})
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
