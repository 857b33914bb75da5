"""Lives of runs that are killed and resumed: the bits of a run that was not."""

from __future__ import annotations

import pickle
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

import subgrad_fast as sf
from subgrad_fast.optim import SGD, ThresholdSGD
from tests.fuzz.life import Life, alike
from tests.fuzz.processes import fork, join, kill
from tests.fuzz.samplers import Spec, random_spec


@dataclass
class Run:
    """A small training run, of which any number can be begun."""

    spec: Spec
    data: np.ndarray
    optimizer: str
    steps: int
    saves: int  # a state is saved every so many steps

    def make(self) -> tuple[Any, Any, Callable[[np.ndarray], None], Any]:
        """Loader, parameters, a step, and what has a state of the two."""
        loader = sf.BatchLoader(self.data, self.spec.made(), prefetch=3)
        if self.optimizer == "fused":
            w = np.zeros(self.data.shape[1], np.float32)
            fused = sf.FusedSGD(w, lr=0.1, momentum=0.9, weight_decay=0.01)
            return loader, w, fused, fused
        param = torch.nn.Parameter(torch.zeros(self.data.shape[1]))
        kinds: dict[str, Callable[[], Any]] = {
            "sgd": lambda: SGD([param], lr=0.1, momentum=0.9, nesterov=True),
            "threshold": lambda: ThresholdSGD([param], lr=0.1, momentum=0.9, density=0.2, warmup=9),
            "reused": lambda: ThresholdSGD([param], lr=0.1, density=0.2, selector="reused"),
        }
        optimizer = kinds[self.optimizer]()

        def step(gradient: np.ndarray) -> None:
            param.grad = torch.from_numpy(gradient)
            optimizer.step()

        return loader, param.detach().numpy(), step, optimizer

    def train(self, folder: Path) -> None:
        """Goes on from the state in the folder to the end, whose parameters it leaves there."""
        loader, w, step, optimizer = self.make()
        done = 0
        if (folder / "state").exists():
            saved = pickle.loads((folder / "state").read_bytes())
            done = saved["done"]
            w[...] = saved["w"]
            optimizer.load_state_dict(saved["optimizer"])
            loader.load_state_dict(saved["loader"])
        while done < self.steps:
            for batch in loader:
                step((w - batch.sum(axis=0, dtype=np.float32)) / np.float32(64))
                done += 1
                if done % self.saves == 0 or done == self.steps:
                    state = {"done": done, "w": w.copy(), "loader": loader.state_dict()}
                    write(folder / "state", state | {"optimizer": optimizer.state_dict()})
                if done == self.steps:
                    break
        write(folder / "end", w)


def write(file: Path, value: Any) -> None:
    """As a whole or not at all."""
    part = file.with_suffix(".part")
    part.write_bytes(pickle.dumps(value))
    part.replace(file)


def live(life: Life) -> None:
    torch.set_num_threads(1)  # torch's pool does not survive a fork
    spec = random_spec(life, ("batch", "weighted", "stratified", "balanced"))
    if spec.options.get("batch_size", 0) is None:
        spec.options |= {"batch_size": 1, "world_size": 1, "rank": 0}
    sampler = spec.made()
    n = sampler.n
    if len(sampler) == 0:
        return
    data = life.numbers.standard_normal((n, life.pick((3, 40)))).astype(np.float32)
    kind = life.pick(("fused", "sgd", "threshold", "reused"))
    run = Run(spec, data, kind, life.number(20, 120), life.number(1, 7))
    life.note(f"{kind}: {run.steps} steps, a state every {run.saves}")
    with tempfile.TemporaryDirectory() as name:
        whole, broken = Path(name) / "whole", Path(name) / "broken"
        whole.mkdir()
        broken.mkdir()
        join(fork(life, lambda: run.train(whole)))
        for _ in range(life.number(1, 8)):
            child = fork(life, lambda: run.train(broken))
            time.sleep(0.02 * life.rng.random() ** 2)
            life.counts["kills"] += kill(child)
        join(fork(life, lambda: run.train(broken)))
        life.counts["calls"] += run.steps
        want, got = (pickle.loads((f / "end").read_bytes()) for f in (whole, broken))
        life.check(alike(got, want), f"other bits: {got[:3]}, not {want[:3]}")
