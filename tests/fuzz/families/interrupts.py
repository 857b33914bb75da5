"""Lives with KeyboardInterrupts: every object is as before the call or as after it, and goes on."""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

import subgrad_fast as sf
from subgrad_fast.loading import gathering as module
from subgrad_fast.optim import SGD, ThresholdSGD
from tests.fuzz.interruption import Interrupter
from tests.fuzz.life import LEFT_OUT, Life, alike
from tests.fuzz.memory import values_of
from tests.fuzz.samplers import Spec, parts, random_spec

_MOST_TRIES = 2000  # of an epoch's batches; the rest are taken in peace


def live(life: Life) -> None:
    torch.manual_seed(life.rng.getrandbits(60))
    scenes = [an_iterator, a_loader, a_fused_step, an_optimizer, a_sampler, functions]
    scene = life.pick([scene for scene in scenes if scene.__name__ not in LEFT_OUT])
    life.note(scene.__name__)
    scene(life, Interrupter(life))


def either(life: Life, now: Any, before: Any, after: Any, interrupted: bool) -> None:
    """That a call has had its effect, or none if it was interrupted."""
    right = alike(now, after) or (interrupted and alike(now, before))
    life.check(right, "between before and after" if interrupted else "not as after")


# --- samplers ------------------------------------------------------------------------------------


def an_iterator(life: Life, interrupter: Interrupter) -> None:
    """What follows an interrupt is the next batch, or the one behind that."""
    spec = random_spec(life)
    sampler = spec.made()
    for epoch in range(life.number(1, 3)):
        stopped, iterator = interrupter.run("iter", lambda: iter(sampler))
        if stopped:
            state = sampler.state_dict()
            life.check((state["epoch"], state["position"]) == (epoch, 0), f"iter leaves {state}")
            sampler.load_state_dict(state)
            iterator = iter(sampler)
        _follow(life, interrupter, sampler, iterator, _wanted(spec, sampler, epoch))
        life.check(sampler.epoch == epoch + 1, f"epoch {sampler.epoch} behind {epoch}")
    rest = [np.atleast_1d(rows) for rows in sampler]
    whole = [np.atleast_1d(rows) for rows, _ in _wanted(spec, sampler, sampler.epoch - 1)]
    life.check(alike(rest, whole), "a later epoch is not whole")


def _wanted(spec: Spec, sampler: Any, epoch: int) -> list[tuple[Any, int]]:
    size = sampler.batch_size or sampler.world_size
    wanted = parts(spec.rows(sampler.seed, epoch), 0, size, sampler)
    return [part for part in wanted if part[0].size] if sampler.batch_size is None else wanted


def _follow(
    life: Life, interrupter: Interrupter, sampler: Any, iterator: Any, wanted: list[Any]
) -> None:
    """Takes all batches. One that was being handed over when the interrupt came may be lost."""
    at, doubt, end = 0, 0, object()  # doubt: how many batches may be lost
    begin = sampler.state_dict()["epoch"]
    places = {0, sampler.length, *(position for _, position in wanted)}
    while True:
        stopped, rows = interrupter.run("next", lambda: next(iterator, end))
        state = sampler.state_dict()
        position, over = state["position"], state["epoch"] != begin
        life.check(position == 0 if over else position in places, f"position {position}")
        if stopped:
            doubt += 1
            continue
        if rows is end:
            life.check(at + doubt >= len(wanted), f"ends at {at} of {len(wanted)} batches")
            return
        got = np.atleast_1d(rows)
        possible = range(at, min(at + doubt + 1, len(wanted)))
        same = [i for i in possible if np.array_equal(got, wanted[i][0])]
        life.check(same, f"batch {at} is {got[:5]}, behind {doubt} interrupts")
        same = [i for i in same if wanted[i][1] == position]
        life.check(same, f"position {position} behind batch {at}")
        at, doubt = same[0] + 1, 0


def a_sampler(life: Life, interrupter: Interrupter) -> None:
    """States, draws and updates."""
    spec = random_spec(life, ("weighted", "weighted", "batch", "groups"))
    sampler = spec.made()
    states = [sampler.state_dict()]

    def seen(one: Any) -> Any:
        return [one.state_dict(), one.weights if hasattr(one, "weights") else None]

    for _ in range(life.number(5, 15)):
        state, epoch = life.pick(states), life.number(0, 5)
        jobs: dict[str, Callable[[Any], Any]] = {
            "load": lambda s, state=state: s.load_state_dict(state),
            "epoch": lambda s, epoch=epoch: s.set_epoch(epoch),
        }
        row = life.number(0, sampler.n - 1) if hasattr(sampler, "draw") else 0
        if hasattr(sampler, "draw"):
            jobs["draw"] = lambda s: s.draw(1)
            if sampler.replacement and not spec.updates:
                jobs["update"] = lambda s, row=row: s.update([row], [0.5])
        name = life.pick(list(jobs))
        twin = spec.made()
        twin.load_state_dict(sampler.state_dict())
        before = seen(sampler)
        jobs[name](twin)
        stopped, _ = interrupter.run(name, lambda name=name, jobs=jobs: jobs[name](sampler))
        either(life, seen(sampler), before, seen(twin), stopped)
        if name == "update" and alike(seen(sampler), seen(twin)):
            spec.updates.append(([row], [0.5]))
            states = []
        states.append(sampler.state_dict())


# --- loaders -------------------------------------------------------------------------------------


def a_loader(life: Life, interrupter: Interrupter) -> None:
    """After an interrupt the iterator goes on, or has ended and its state goes on."""
    usual = module._BACKGROUND_BYTES
    module._BACKGROUND_BYTES = life.pick((0, sys.maxsize))
    try:
        if life.chance(0.4):
            _listed(life, interrupter)
        else:
            _sampled(life, interrupter)
    finally:
        module._BACKGROUND_BYTES = usual


def _listed(life: Life, interrupter: Interrupter) -> None:
    n = life.number(1, 200)
    batches = [life.numbers.integers(0, n, life.number(0, 20)) for _ in range(life.number(1, 8))]
    loader = sf.BatchLoader(np.arange(n), batches, prefetch=life.pick((1, 2, 4)))
    for _ in range(life.number(2, 6)):
        _take_some(life, interrupter, loader)
        loader.load_state_dict({**loader.state_dict(), "batches": 0})
        _check_whole(life, loader, batches)


def _take_some(life: Life, interrupter: Interrupter, loader: sf.BatchLoader) -> None:
    """Takes batches of an iterator, which is left then."""
    iterator = iter(loader)
    for _ in range(life.number(1, 12)):
        stopped, batch = interrupter.run("next", lambda: next(iterator, None))
        if not stopped and batch is None:
            return


def _check_whole(life: Life, loader: sf.BatchLoader, wanted: list[np.ndarray]) -> None:
    got = [np.array(batch) for batch in loader]
    life.check(alike(got, wanted), f"an epoch of {[g.shape for g in got]}: is not whole")


def _sampled(life: Life, interrupter: Interrupter) -> None:
    spec = random_spec(life, ("batch", "weighted", "stratified", "quotas"))
    if spec.options.get("batch_size", 0) is None:
        spec.options |= {"batch_size": 1, "world_size": 1, "rank": 0}
    sampler = spec.made()
    n = sampler.n
    loader = sf.BatchLoader(np.arange(n), sampler, prefetch=life.pick((1, 2, 4)))
    epoch = 0
    for _ in range(life.number(1, 2)):
        epoch = _follow_loader(life, interrupter, loader, spec, epoch) + 1
    loader.set_epoch(epoch + 3)
    _check_whole(life, loader, [rows for rows, _ in _wanted(spec, sampler, epoch + 3)])


def _follow_loader(
    life: Life, interrupter: Interrupter, loader: Any, spec: Spec, epoch: int
) -> int:
    """Takes an epoch, of which a batch that was being handed over may be lost.

    An interrupt ends the iterator, so an epoch of thousands of batches would take minutes.
    """
    wanted = _wanted(spec, loader.sampler, epoch)
    places = [0, *(position for _, position in wanted)]
    iterator, at, doubt, end = iter(loader), 0, 0, object()
    tries = 0
    while True:
        tries += 1
        if tries > _MOST_TRIES:
            stopped, batch = False, next(iterator, end)
        else:
            stopped, batch = interrupter.run("next", lambda it=iterator: next(it, end))
        if stopped:
            doubt += 1
            continue
        if batch is not end:
            possible = range(at, min(at + doubt + 1, len(wanted)))
            same = [i for i in possible if np.array_equal(batch, wanted[i][0])]
            life.check(same, f"batch {at} is {batch[:5]}, behind {doubt} interrupts")
            position = loader.state_dict()["sampler"]["position"]
            same = [i for i in same if wanted[i][1] == position]
            life.check(same, f"position {position} behind batch {at}")
            at, doubt = same[0] + 1, 0
            continue
        state = loader.state_dict()
        where = (state["sampler"]["epoch"], state["sampler"]["position"])
        if where == (epoch + 1, 0):
            life.check(at + doubt >= len(wanted), f"ends at {at} of {len(wanted)}")
            return epoch
        # The interrupt has ended the iterator. What it has not handed over comes in another.
        life.check(doubt > 0, f"ends at {at} of {len(wanted)} without an interrupt")
        life.check(where[0] == epoch and where[1] in places[at : at + doubt + 1], f"state {where}")
        loader.load_state_dict(state)
        iterator, at, doubt = iter(loader), max(at, places.index(where[1])), 0


# --- steps ---------------------------------------------------------------------------------------


def a_fused_step(life: Life, interrupter: Interrupter) -> None:
    params = [np.ones(s, np.float32) for s in ((3,), (2, 5))]
    terms = {"lr": 0.1, "momentum": life.pick((0.0, 0.9))}
    step = sf.FusedSGD(params, **terms)
    states = [step.state_dict()]

    def seen(one: sf.FusedSGD) -> Any:
        state = one.state_dict()
        buffers = None if state["first_step"] else state["momentum_buffers"]
        return [[p.copy() for p in one.params], buffers]

    for _ in range(life.number(5, 20)):
        if life.chance(0.2):
            terms["momentum"] = step.momentum = life.pick((0.0, 0.9))
        twin = sf.FusedSGD([p.copy() for p in params], **terms)
        twin.load_state_dict(step.state_dict())
        grads = [life.numbers.standard_normal(p.shape).astype(np.float32) for p in params]
        name, state = life.pick(("step", "step", "step", "load")), life.pick(states)
        jobs: dict[str, Callable[[Any], Any]] = {
            "step": lambda s, grads=grads: s(grads),
            "load": lambda s, state=state: s.load_state_dict(state),
        }
        before = seen(step)
        jobs[name](twin)
        stopped, _ = interrupter.run(name, lambda name=name, jobs=jobs: jobs[name](step))
        either(life, seen(step), before, seen(twin), stopped)
        states.append(step.state_dict())


def an_optimizer(life: Life, interrupter: Interrupter) -> None:
    """Steps of the kernels, the first among them, whose buffers are new; rows too."""
    with_rows = life.chance(0.3)
    params = [torch.nn.Parameter(torch.randn(s)) for s in ((3,), (4, 5), (2, 2))]
    kinds: list[Callable[[], Any]] = [
        lambda: SGD([{"params": params[:2]}, {"params": params[2:], "lr": 0.3}], momentum=0.9),
        lambda: SGD(params, lr=0.1),
        lambda: ThresholdSGD(params, lr=0.1, momentum=0.9, density=0.3, warmup=4),
        lambda: ThresholdSGD(params, lr=0.1, density=0.3, selector="reused"),
    ]
    optimizer = life.pick(kinds[: 2 if with_rows else 4])()

    def seen(side: Any) -> Any:
        ps, o = side
        steps = [group.get("steps") for group in o.param_groups]
        return [[p.detach().clone() for p in ps], steps,
                [_copy(o.state.get(p, {})) for p in ps]]  # fmt: skip

    for _ in range(life.number(4, 15)):
        side = (params, optimizer)
        for p in params:
            p.grad = None
        twins = copy.deepcopy(side)
        for p, q in zip(params, twins[0], strict=True):
            if life.chance(0.85):
                grad = torch.randn(p.shape)
                if with_rows and p.ndim == 2 and life.chance(0.5):
                    grad = grad[:1].to_sparse(1).resize_as_(grad.to_sparse(1))
                p.grad = q.grad = grad
        if life.chance(0.1):
            optimizer.state.clear()
            twins[1].state.clear()
        before = seen(side)
        twins[1].step()
        stopped, _ = interrupter.run("step", optimizer.step)
        either(life, seen(side), before, seen(twins), stopped)


def _copy(state: dict[str, Any]) -> dict[str, Any]:
    return {k: v.clone() if isinstance(v, torch.Tensor) else v for k, v in sorted(state.items())}


def functions(life: Life, interrupter: Interrupter) -> None:
    """Steps that hold nothing: all arrays have moved, or none."""
    for _ in range(life.number(5, 15)):
        w, g, v, m = (life.numbers.standard_normal((6, 4)).astype(np.float32) for _ in range(4))
        selector = sf.Reused(0.3)
        jobs: dict[str, Callable[..., Any]] = {
            "sgd_step": lambda w, g, _, m, __: sf.sgd_step(w, g, m, lr=0.1, momentum=0.9),
            "threshold_step": lambda w, g, v, m, s: sf.threshold_step(w, g, v, m, lr=0.1,
                                                                      momentum=0.9, selector=s),
            "row_step": lambda w, g, _, m, __: sf.row_step(w, ([3, 1, 3], g[:3]), m, lr=0.1,
                                                          momentum=0.9),
            "hard_threshold_": lambda w, _, v, *__: sf.hard_threshold_([w, v], density=0.5),
            "n_m_": lambda w, _, v, *__: sf.n_m_([w, v]),
            "apply_mask_": lambda w, g, v, m, _: sf.apply_mask_([w, v], [g > 0, m > 0]),
        }  # fmt: skip
        name = life.pick(list(jobs))
        before = [w.copy(), v.copy(), m.copy(), []]
        twins = [w.copy(), g.copy(), v.copy(), m.copy(), sf.Reused(0.3)]
        jobs[name](*twins)
        after = [twins[0], twins[2], twins[3], list(twins[4].thresholds)]
        arguments = (w, g, v, m, selector)
        stopped, _ = interrupter.run(name, lambda n=name, j=jobs, a=arguments: j[n](*a))
        now = [values_of(w), values_of(v), values_of(m), list(selector.thresholds)]
        either(life, now, before, after, stopped)
