"""Orders, draws, batches: the rows of the table in launches.py for sampling.cu and loading.cu."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

import subgrad_fast as sf
from kernels.work import Kernel, Work
from subgrad_fast import _core

COUNT = 8192  # several for each thread of a grid


def indices(gpu: Any, count: int = COUNT) -> Any:
    return gpu.array(np.arange(count))


def orders(gpu: Any, order: sf.Permutation) -> Iterator[Work]:
    """A range, listed positions, and listed rows."""
    values = indices(gpu)
    yield Work(lambda: order.slice(0, COUNT, out=values), COUNT, 8 * COUNT)
    yield Work(lambda: order._order.indices(values), COUNT, 16 * COUNT)
    yield Work(lambda: order._order.positions(values), COUNT, 16 * COUNT)


def walk_works(gpu: Any) -> Iterator[Work]:
    yield from orders(gpu, sf.Permutation(2**16 + 1))


def window_works(gpu: Any) -> Iterator[Work]:
    yield from orders(gpu, sf.Permutation(10**6, block_size=100, blocks_together=10))


WALKS = {
    "true, Range": "positions in a range to rows",
    "true, Listed": "listed positions to rows",
    "false, Listed": "listed rows to positions",
}


def draw_works(gpu: Any) -> Iterator[Work]:
    out = indices(gpu)
    yield Work(lambda: _core.sampling.uniform_draws(10**6, 0, 0, 0, out), COUNT, 8 * COUNT)
    drawer = _core.sampling.Weights(np.random.default_rng(1).random(10_000), None)
    drawer.draw(0, 0, 0, False, out)  # which puts the table on the device
    yield Work(lambda: drawer.draw(0, 0, 0, False, out), COUNT, 24 * COUNT)


def words_works(gpu: Any) -> Iterator[Work]:
    out = indices(gpu)
    blocks = COUNT // 2
    yield Work(lambda: _core.testing.random_words_on_device(1, 2, 3, out), blocks, 16 * blocks)


def gather_works(gpu: Any) -> Iterator[Work]:
    width = 256
    source = gpu.array(np.ones((500, width), np.float32))
    for batch in (48, 96):  # few packs, and enough that a thread takes several
        rows = gpu.array(np.random.default_rng(batch).integers(0, 500, batch))
        out = gpu.array(np.zeros((batch, width), np.float32))

        def run(out: Any = out, rows: Any = rows) -> None:
            _core.testing.gather([source], [out], rows)

        elements = batch * width
        yield Work(run, elements, 8 * elements + 8 * batch)


def sent_works(gpu: Any) -> Iterator[Work]:
    for count in (511, 4094):
        given, out = np.arange(count), indices(gpu, count)

        def run(given: Any = given, out: Any = out) -> None:
            _core.testing.send_indices(given, COUNT, out)

        yield Work(run, count, 8 * count)


SAMPLING = {
    "walk": Kernel(
        walk_works,
        "An order without blocks, of 2^16 + 1 rows: the worst case, where half of the passes have "
        "to be repeated. An element is a position: 8 bytes are written, and 8 read where it is "
        "listed. Lanes that arrive early go on at once, so a warp's stores fall apart; they meet "
        "again in the second-level cache, which the figure for sectors leaves out.",
        WALKS.__getitem__,
    ),
    "walk_windows": Kernel(
        window_works,
        "An order block by block. An element is a position: 8 bytes are written, and 8 read where "
        "it is listed. The keys of a window stay in shared memory, which bounds the occupancy.",
        WALKS.__getitem__,
    ),
    "draw": Kernel(
        draw_works,
        "Draws with replacement. An element is a draw: 8 bytes are written, and a weighted one "
        "reads a column of 16 bytes somewhere in its table, half of a sector.",
        {"UniformPicker": "uniform", "AliasPicker": "weighted"}.__getitem__,
    ),
    "random_words": Kernel(
        words_works,
        "The generator, for tests. An element is a block of two words: 16 bytes are written, each "
        "word by an instruction of its own.",
    ),
    "gather": Kernel(
        gather_works,
        "A batch of rows of 1 KB. An element is 4 bytes of a row, which are read and written, with "
        "a 256th of an index of 8 bytes. The 64 threads that copy a row all ask for its index, "
        "which is fetched once a warp.",
        lambda packs: f"{packs} pack{'' if packs == '1' else 's'} a thread",
    ),
    "store_indices": Kernel(
        sent_works,
        "Indices from the host, which are a kernel parameter. An element is an index: its 8 bytes "
        "are written.",
        {"IndexList<4096>": "511 a launch", "IndexList<32760>": "4094 a launch"}.__getitem__,
    ),
}
