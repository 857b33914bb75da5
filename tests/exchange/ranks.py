"""Processes of one gloo group on loopback, which run the jobs of a module on demand.

Starting them takes seconds, so they stay for all tests of a module.
"""

from __future__ import annotations

import importlib
import multiprocessing
import os
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from datetime import timedelta
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

START_SECONDS = 120
JOB_SECONDS = 60


class JobError(Exception):
    """What went wrong in a process, and which."""


def serve(rank: int, size: int, store: str, connection: Connection, jobs: str) -> None:
    """The life of a process: joins the group, then answers jobs until it is told None."""
    if sys.platform == "linux":
        os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    import torch
    import torch.distributed as dist

    module = importlib.import_module(jobs)
    warnings.simplefilter("error")
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo",
        store=dist.FileStore(store, size),
        rank=rank,
        world_size=size,
        timeout=timedelta(seconds=JOB_SECONDS),
    )
    groups = {world: dist.new_group(list(range(world))) for world in range(1, size)}
    groups[size] = dist.group.WORLD
    connection.send(("done", None))
    while (order := connection.recv()) is not None:
        job, world, arguments = order
        try:
            result = getattr(module, job)(groups[world], rank, **arguments)
            connection.send(("done", result))
        except Exception:
            connection.send(("failed", traceback.format_exc()))
    dist.destroy_process_group()


class Ranks:
    """`size` processes, whose jobs are functions of the module named so. After a failure the next
    job gets new ones."""

    def __init__(self, size: int, folder: Path, jobs: str = "tests.exchange.jobs") -> None:
        self.size = size
        self.jobs = jobs
        self.folder = folder
        self.starts = 0
        self.members: list[tuple[Any, Connection]] = []

    def start(self) -> None:
        # All processes are forked from one that has imported torch and done nothing else.
        how = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
        context = multiprocessing.get_context(how)
        if how == "forkserver":
            context.set_forkserver_preload(["torch", "torch.distributed", "torch._dynamo"])
        self.starts += 1
        store = str(self.folder / f"store{self.starts}")
        for rank in range(self.size):
            here, there = context.Pipe()
            process = context.Process(
                target=serve, args=(rank, self.size, store, there, self.jobs), daemon=True
            )
            process.start()
            there.close()
            self.members.append((process, here))
        self._answers(self.size, START_SECONDS)

    def run(self, job: str, world: int, **arguments: Any) -> list[Any]:
        """The result of `job` on each of the first `world` ranks.

        An argument that is a list has one item for each rank if its name begins with `each_`.
        """
        if not self.members:
            self.start()
        for rank, (_, connection) in enumerate(self.members[:world]):
            own = {
                name.removeprefix("each_"): value[rank] if name.startswith("each_") else value
                for name, value in arguments.items()
            }
            connection.send((job, world, own))
        return self._answers(world, JOB_SECONDS)

    def _answers(self, world: int, seconds: float) -> list[Any]:
        deadline = time.monotonic() + seconds
        answers: dict[int, Any] = {}
        while len(answers) < world:
            waiting = {self.members[r][1]: r for r in range(world) if r not in answers}
            ready = multiprocessing.connection.wait(waiting, max(0, deadline - time.monotonic()))
            if not ready:
                self.stop(kill=True)
                raise JobError(f"ranks {sorted(waiting.values())}: no answer in {seconds} s")
            for connection in ready:
                rank = waiting[connection]
                try:
                    how, answers[rank] = connection.recv()
                except EOFError:
                    how, answers[rank] = "failed", "the process has ended"
                if how == "failed":
                    self.stop(kill=True)  # the others may wait for it
                    raise JobError(f"rank {rank}: {answers[rank]}")
        return [answers[rank] for rank in range(world)]

    def stop(self, *, kill: bool = False) -> None:
        for process, connection in self.members:
            if kill:
                process.kill()
            else:
                connection.send(None)
        for process, connection in self.members:
            process.join(10)
            if process.is_alive():
                process.kill()
                process.join()
            connection.close()
        self.members = []


Run = Callable[..., list[Any]]


def running(folder: Path, jobs: str) -> Iterator[Run]:
    """``run(job, world, ...)`` for a fixture: in groups of just so many processes, each of which
    stays until the end."""
    groups: dict[int, Ranks] = {}

    def run(job: str, world: int, **arguments: Any) -> list[Any]:
        if world not in groups:
            (own := folder / str(world)).mkdir()
            groups[world] = Ranks(world, own, jobs)
        return groups[world].run(job, world, **arguments)

    yield run
    for group in groups.values():
        group.stop()
