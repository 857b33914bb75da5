"""Train on several processes that send each other 1% of their gradients, and survive a kill.

    torchrun --standalone --nproc-per-node 2 examples/distributed_training.py

A rank adds its gradient to what it has held back, sends the largest entries to all others and keeps
the rest (error feedback). After each epoch every rank saves what it holds. A run that is started
again goes on after the last epoch that was saved: with the same bits if it has as many ranks as
before; with another number, each begins with the mean of what the old ones held.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import mnist5k
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.functional import cross_entropy
from torch.nn.parallel import DistributedDataParallel

import subgrad_fast as sf
from subgrad_fast.distributed import SparseState, mean_state, sparse_hook
from subgrad_fast.optim import SGD

BATCH_SIZE, LEARNING_RATE = 64, 0.1
"""Images of an iteration, of all ranks together."""
TRAINING, TEST = 300, 200
"""Images of each digit."""


class Run:
    """What a rank trains, saves and loads."""

    def __init__(self, density: float) -> None:
        self.rank, self.world_size = dist.get_rank(), dist.get_world_size()
        torch.manual_seed(0)  # the same network on all ranks
        self.network = nn.Sequential(
            nn.Flatten(), nn.Linear(784, 256), nn.ReLU(), nn.Linear(256, 10)
        )
        self.optimizer = SGD(self.network.parameters(), lr=LEARNING_RATE)
        self.model = DistributedDataParallel(self.network)
        self.state = SparseState(self.network, density=density)
        self.model.register_comm_hook(self.state, sparse_hook)
        self.data, self.test = mnist5k.split(range(10), [TRAINING, TEST], seed=0)
        # The ranks share each batch, whose rows do not depend on their number.
        sampler = sf.BatchSampler(
            len(self.data.images),
            BATCH_SIZE,
            rank=self.rank,
            world_size=self.world_size,
            tail="drop",
        )
        self.batches = sf.BatchLoader((self.data.images, self.data.labels), sampler)
        self.epoch = 0

    def train(self) -> None:
        """One epoch."""
        self.batches.set_epoch(self.epoch)
        for images, labels in self.batches:
            self.optimizer.zero_grad()
            cross_entropy(self.model(images), labels).backward()
            if not self.state.skipped:  # a gradient that is not finite: the same on all ranks
                self.optimizer.step()
        self.epoch += 1

    def save(self, folder: Path) -> None:
        """Every rank saves what it holds back, and one of them what all have in common."""
        place = folder / f"epoch-{self.epoch}"
        place.mkdir(parents=True, exist_ok=True)
        torch.save(self.state.state_dict(), place / f"rank-{self.rank}.pt")
        if self.rank == 0:
            common = {"network": self.network.state_dict(), "epoch": self.epoch}
            torch.save({**common, "optimizer": self.optimizer.state_dict()}, place / "common.pt")
        dist.barrier()  # Only what all ranks have written counts.
        if self.rank == 0:
            (folder / "latest.new").write_text(place.name)
            (folder / "latest.new").replace(folder / "latest")

    def load(self, folder: Path) -> str:
        """Go on where the last save was made. Says whence."""
        if not (folder / "latest").exists():
            return "from the beginning"
        place = folder / (folder / "latest").read_text()
        common = torch.load(place / "common.pt", weights_only=True)
        self.network.load_state_dict(common["network"])
        self.optimizer.load_state_dict(common["optimizer"])
        self.epoch = common["epoch"]
        held: list[dict[str, Any]] = [
            torch.load(file, weights_only=True) for file in sorted(place.glob("rank-*.pt"))
        ]
        if len(held) == self.world_size:
            (own,) = (state for state in held if state["rank"] == self.rank)
        else:
            own = mean_state(held)
        self.state.load_state_dict(own)
        return f"after epoch {self.epoch} of {len(held)} ranks"


def main(argv: list[str] | None = None) -> None:
    """Train, and report after each epoch."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--density", type=float, default=0.01, help="share of a gradient sent")
    parser.add_argument("--folder", type=Path, help="save there, and go on from there")
    options = parser.parse_args(argv)
    dist.init_process_group("gloo")
    run = Run(options.density)
    whence = "from the beginning" if options.folder is None else run.load(options.folder)

    def say(text: str) -> None:
        if run.rank == 0:
            print(text, flush=True)

    say(f"{run.world_size} ranks, {options.density:.1%} of each gradient, {whence}")
    dense = 4 * sum(p.numel() for p in run.network.parameters())
    while run.epoch < options.epochs:
        run.train()
        if options.folder is not None:
            run.save(options.folder)
        accuracy = mnist5k.accuracy(run.network, run.test)
        sent = run.state.sent_bytes
        say(f"epoch {run.epoch}: {accuracy:.1%}, {sent:,} bytes to each rank; dense {dense:,}")
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
