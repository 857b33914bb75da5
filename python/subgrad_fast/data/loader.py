"""torch's DataLoader, whose batches are gathered where the data set is arrays in memory."""

from __future__ import annotations

import warnings
import weakref
from collections.abc import Callable, Iterable, Mapping
from itertools import islice
from typing import Any, TypeVar

import torch
import torch.utils.data
from torch.utils.data import dataloader as torchs

from subgrad_fast._arguments import check_state, integer
from subgrad_fast.data import orders
from subgrad_fast.data.datasets import InMemory, Recogniser, as_columns
from subgrad_fast.data.gathering import Gathering, LookedUp, collating, stacks_rows
from subgrad_fast.data.handed import Beginning, Handed, InThisProcess, InWorkers, Plain
from subgrad_fast.data.passes import Drawn
from subgrad_fast.data.randomness import Generators
from subgrad_fast.data.rows import Refused
from subgrad_fast.loading.gathering import Collate, GatherPass
from subgrad_fast.loading.sources import Counted, Source
from subgrad_fast.sampling.passes import Pass

_STATE_VERSION = 1
_OWN = ("_begun", "_beginning", "_resumed", "_gathering", "_recognise", "_seeded", "_iterator")

Item_co = TypeVar("Item_co", covariant=True)


class DataLoader(torch.utils.data.DataLoader[Item_co]):
    """``torch.utils.data.DataLoader``, faster where the data set is arrays in memory.

    ::

        from subgrad_fast.data import DataLoader

        for x_batch, y_batch in DataLoader(TensorDataset(x, y), batch_size=128, shuffle=True):
            ...

    Arguments, attributes, order and batches are torch's: the same rows for the same
    ``torch.manual_seed`` or `generator`, in the same containers, of memory of their own.

    A `TensorDataset`, a tensor, a NumPy array, a tuple or dict of these, a `StackDataset` or
    `Subset` of any of these, and a Hugging Face data set in torch or numpy format are gathered by
    one call a batch in the calling process, whatever `num_workers` is (with workers large batches
    are gathered ahead by a thread). Everything else is handed to torch's own code: other data sets,
    a `collate_fn`, ``batch_size=None``, a `worker_init_fn`, tensors on a GPU or with gradients.
    `handed_over` says why.

    A tuple of arrays is taken for columns if they could not be stacked as items and are fewer than
    their rows; torch would take it for a list of items.

    `state_dict` and `load_state_dict` are those of torchdata's StatefulDataLoader: in the middle of
    an epoch too, no batch comes twice and none is lost. Torch's global generator is the caller's to
    save; the order of an epoch that was begun is the loader's.

    Args:
        dataset, batch_size, shuffle, num_workers, collate_fn, pin_memory, drop_last: as in torch.
        sampler, batch_sampler: as in torch. A sampler of this library is passed as
            ``batch_sampler=sampler.as_torch()``.
        timeout, worker_init_fn, multiprocessing_context, generator, prefetch_factor: as in torch.
        persistent_workers, pin_memory_device, in_order: as in torch.

    Raises:
        ValueError: as torch does, or a sampler of this library is of another number of rows.
        TypeError: as torch does.
    """

    def __init__(
        self,
        dataset: Any,
        batch_size: int | None = 1,
        shuffle: bool | None = None,
        sampler: torch.utils.data.Sampler[Any] | Iterable[Any] | None = None,
        batch_sampler: torch.utils.data.Sampler[Any] | Iterable[Any] | None = None,
        num_workers: int = 0,
        collate_fn: Callable[[list[Any]], Any] | None = None,
        pin_memory: bool = False,
        drop_last: bool = False,
        timeout: float = 0,
        worker_init_fn: Callable[[int], None] | None = None,
        multiprocessing_context: Any = None,
        generator: torch.Generator | None = None,
        *,
        prefetch_factor: int | None = None,
        persistent_workers: bool = False,
        pin_memory_device: str = "",
        in_order: bool = True,
    ) -> None:
        super().__init__(
            as_columns(dataset),
            batch_size,
            shuffle,
            sampler,
            batch_sampler,
            num_workers,
            collate_fn,
            pin_memory,
            drop_last,
            timeout,
            worker_init_fn,
            multiprocessing_context,
            generator,
            prefetch_factor=prefetch_factor,
            persistent_workers=persistent_workers,
            pin_memory_device=pin_memory_device,
            in_order=in_order,
        )
        self._set_up()
        ours = orders.of_this_library(self.batch_sampler)
        if ours is not None and ours._of_this_library and ours.n != len(self.dataset):  # type: ignore[arg-type]
            raise ValueError(
                f"batch_sampler: is of {ours.n} rows, but the data set has {len(self.dataset)}"  # type: ignore[arg-type]
            )

    def _set_up(self) -> None:
        self._resumed: Mapping[str, Any] | None = None  # a state that the next pass goes on from
        # What the pass begun last has drawn, and that pass, as long as somebody holds it.
        self._begun: tuple[Drawn, weakref.ref[Any]] | None = None
        self._beginning = Beginning()  # told to torch's code, while it begins a pass
        self._gathering: Gathering | None = None
        self._seeded = False  # whether workers, if there were any, have been told a seed
        self._recognise = Recogniser()

    # --- which code makes the batches ------------------------------------------------------------

    @property
    def _streams(self) -> bool:
        return self._dataset_kind == torchs._DatasetKind.Iterable

    def _found(self) -> InMemory:
        """The data set's arrays. Raises Refused where torch's own code makes the batches."""
        if self._streams:
            raise Refused("dataset: is iterated over")
        if self.batch_sampler is None:
            raise Refused("batch_size: None, so items are not collated")
        if not stacks_rows(self.collate_fn):
            raise Refused("collate_fn: not torch's default")
        if self.worker_init_fn is not None and self.num_workers > 0:
            raise Refused("worker_init_fn: is to run in workers")
        return self._recognise(self.dataset)

    @property
    def handed_over(self) -> str | None:
        """Why torch's own code makes the batches; None where they are gathered."""
        try:
            self._found()
        except Refused as why:
            return str(why)
        return None

    def __repr__(self) -> str:
        why = self.handed_over
        by = "gathered" if why is None else f"by torch's own code ({why})"
        size = "" if self.batch_size is None else f", batches of {self.batch_size}"
        return f"<DataLoader of {type(self.dataset).__name__}{size}, {by}>"

    # --- passes ----------------------------------------------------------------------------------

    def __iter__(self) -> Any:
        try:
            found = self._found()
        except Refused:
            found = None
        ours = orders.of_this_library(self.batch_sampler)
        if found is not None and ours is not None:
            # Whose state is the sampler's own.
            passed = self._gather(found, _counted(ours._begin_for(found.n, on_gpu=False), found))
            self.__dict__.update(_begun=None, _resumed=None)
            return passed
        resumed, generators = self._resumed, self._generators()
        random, taken = (resumed["random"], resumed["batches"]) if resumed else (None, 0)
        if random is None or random["global"] is None or self._streams:
            if random is not None:
                generators.put(random)
            drawn = self._draws(found, generators, taken=taken)
            passed = self._begin(found, drawn)
        else:  # in the middle of an epoch, whose order is drawn again
            drawn = self._draws(found, generators, taken=taken, random=random)
            with generators.at(random):
                drawn.draw_first()
            with generators.kept():
                passed = self._begin(found, drawn)
        self.__dict__.update(_begun=(drawn, weakref.ref(passed)), _resumed=None)
        return passed

    def _draws(self, found: InMemory | None, generators: Generators, **resumed: Any) -> Drawn:
        """What a pass draws; `resumed` as `Drawn` says."""
        sampler: Any = super()._index_sampler
        if found is not None and orders.is_torchs(sampler):
            sampler = orders.of_torch(sampler, found.rows)
        state_dict = getattr(self._stateful(), "state_dict", None)
        return Drawn(sampler, state_dict, generators, **resumed)

    def _begin(self, found: InMemory | None, drawn: Drawn) -> Any:
        """Begins a pass. What it takes from torch's generators is what torch's own would take."""
        if found is None:
            passed = self._hand_over(drawn)
        elif orders.is_torchs(self.batch_sampler):
            passed = self._gather(found, drawn)
        else:
            passed = self._gather(found, drawn, collating(found, self._as_torch))
        if found is not None and self.num_workers > 0:
            drawn.draw_first()
        return passed

    def _gather(
        self, found: InMemory, source: Source, collate: Collate | None = None
    ) -> GatherPass[Any]:
        if self.pin_memory and not torch.accelerator.is_available():
            warnings.warn(
                "pin_memory: no accelerator was found, so batches are not page-locked",
                stacklevel=3,
            )
        pin = self.pin_memory and torch.accelerator.is_available()
        ahead = self.num_workers * (self.prefetch_factor or 0)
        if self._gathering is None or not self._gathering.serves(found, ahead, pin):
            self._gathering = Gathering(found, ahead, pin)
        self._gathering.check_files()
        if not (self.persistent_workers and self._seeded):  # torch draws a seed for workers
            torch.empty((), dtype=torch.int64).random_(generator=self.generator)
            self._seeded = True
        return self._gathering.begin(source, self.__len__, collate)

    def _as_torch(self, indices: Any) -> Any:
        """A batch as torch makes it, or the error that it raises."""
        return self.collate_fn([self.dataset[i] for i in indices])

    def _hand_over(self, drawn: Drawn) -> Any:
        self._beginning.drawn = drawn
        try:
            passed: Any = super().__iter__()
        finally:
            self._beginning.drawn = None
        passed.drawn = drawn
        if isinstance(passed, Plain):
            drawn.is_of(weakref.ref(passed))
        if self._streams:  # what was taken before is fetched, dropped and counted
            taken = drawn.taken
            drawn.leave(-taken)
            next(islice(passed, taken, taken), None)
        return passed

    def _get_iterator(self) -> Any:
        if self.num_workers > 0:
            return InWorkers(self)
        drawn = self._beginning.drawn
        plain = drawn is not None and drawn.is_plain and not self._streams
        return Plain(self) if plain else InThisProcess(self)

    @property
    def _index_sampler(self) -> Any:
        """What torch's own code draws from; while it begins a pass, by way of what keeps count."""
        sampler = super()._index_sampler
        beginning = getattr(self, "_beginning", None)
        if beginning is None or beginning.drawn is None:
            return sampler
        return Handed(sampler, beginning)

    # --- state -----------------------------------------------------------------------------------

    def _stateful(self) -> Any:
        """The sampler that knows where it is; None if none does."""
        samplers = [self.batch_sampler]
        if self.batch_sampler is None or type(self.batch_sampler) is torch.utils.data.BatchSampler:
            samplers.append(self.sampler)
        return next((s for s in samplers if hasattr(s, "state_dict")), None)

    def _generators(self) -> Generators:
        """Those that the order depends on. A sampler with a state looks after its own."""
        if self._stateful() is not None:
            return Generators()
        return Generators(self.generator, getattr(self.sampler, "generator", None))

    def state_dict(self) -> dict[str, Any]:
        """Where the caller is: behind the last batch that he has got. For ``torch.save``."""
        if self._resumed is not None:
            return dict(self._resumed)
        stateful = self._stateful()
        sampler, batches, random = None, 0, None
        if self._begun is not None:
            drawn, passed = self._begun
            gone = passed() is None and not self._streams
            if not drawn.over and not (gone and drawn.taken >= len(self)):
                sampler, batches, random = drawn.state(), drawn.taken, drawn.random
        if sampler is None and stateful is not None:
            sampler, random = stateful.state_dict(), None
        if sampler is not None:
            batches = 0  # it knows itself
        return {
            "version": _STATE_VERSION,
            "batch_size": self.batch_size,
            "batches": batches,
            "sampler": sampler,
            "random": random or self._generators().states(everyones=False),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Has the next pass go on where `state_dict` was called.

        Raises:
            TypeError, ValueError: the state is incomplete, of another version, of another batch
                size, or of another kind of sampler. Nothing has changed then.
        """
        check_state(state, _STATE_VERSION, {"batch_size", "batches", "sampler", "random"})
        batches = integer("state['batches']", state["batches"], 0, 2**63)
        if batches > 0 and state["batch_size"] != self.batch_size:
            raise ValueError(
                f"state['batch_size']: {state['batch_size']} in the middle of an epoch, but this "
                f"loader's is {self.batch_size}"
            )
        random = self._generators().check(state["random"])
        stateful = self._stateful()
        if (stateful is None) != (state["sampler"] is None):
            raise ValueError("state['sampler']: does not belong to a sampler like this one")
        if stateful is not None:
            stateful.load_state_dict(state["sampler"])
        resumed = {**state, "batches": batches, "random": random}
        self.__dict__.update(_resumed=resumed, _begun=None, _iterator=None, _seeded=False)

    def __getstate__(self) -> dict[str, Any]:
        """For copies and pickles, which go on where this one stands."""
        return {**self.__dict__, **dict.fromkeys(_OWN), "_resumed": self.state_dict()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._set_up()
        self.load_state_dict(state["_resumed"])


def _counted(batches: Pass, found: InMemory) -> Counted:
    return Counted(batches) if found.rows is None else LookedUp(batches, found.rows)
