"""The step of `optim.SGD`: by its plan, by a new one, and what either leaves to torch's code."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from itertools import chain, islice
from typing import Any

import torch
from torch import Tensor

from subgrad_fast._core import optimizer as core
from subgrad_fast._core.clip import Clipping, Options, judge
from subgrad_fast._core.rows import RowStep
from subgrad_fast.optim import explain
from subgrad_fast.optim.averages import new_average
from subgrad_fast.optim.dtensor import (
    any_sharded,
    is_shard_covered,
    made_for,
    shard_of,
)
from subgrad_fast.optim.late_rows import LateRows
from subgrad_fast.optim.modes import is_observed
from subgrad_fast.optim.squares import judge_with_others, measured_together
from subgrad_fast.optim.stages import Judging, check_terms, clips, measures
from subgrad_fast.optim.tensors import (
    has_row_gradient,
    has_usual_slots,
    is_on_device,
    is_usual,
    new_buffer,
    slots_for,
)
from subgrad_fast.optim.torchs_step import (
    average_params,
    measured_of,
    slot_of,
    step_with_torch,
)
from subgrad_fast.rows import make_row_step


class PlannedStep(LateRows):
    """What takes the step of an optimizer that keeps a plan: a base of `SGD`."""

    _plan: core.Plan | None = None
    _judging = Judging()
    _options: Options | None = None  # for a step that no GradScaler takes part in
    _found: Clipping | None = None  # by the last step that no plan took
    _overlaps: bool = False  # whether the last plan that was made met shared memory
    _explained: set[str]  # what `explain_once` has said

    def _last_found(self) -> Clipping | None:
        """What the last step found, if it looked at its gradients."""
        return self._found if self._plan is None else self._plan.clipping

    def _whole_step(self, closure: Callable[[], Any] | None = None) -> Any:
        return self._step(closure, observed=is_observed())

    def _step(self, closure: Callable[[], Any] | None = None, *, observed: bool = False) -> Any:
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        with self._turns:
            options, own = self._options, self.__dict__
            if "found_inf" in own or "grad_scale" in own:  # set by a GradScaler for this step
                options = self._judging.options(own.get("grad_scale"), own.get("found_inf"))
            if self._schedules:
                self._schedule_decays()
            if self._tables:
                self._before_step()
            outcome = None if observed else self._try_plan(options)
            if outcome is None or not outcome.done:
                self._step_further(outcome, options, observed=observed)
            if self._schedules and not ((found := self._last_found()) and found.skipped()):
                self._count_averaged()
        return loss

    def _try_plan(self, options: Options | None) -> core.Outcome | None:
        """A step by the plan; None where there is none, or where it has met an overlap."""
        if self._plan is None:
            return None
        try:
            return self._plan.step(self.param_groups, self.state, options)
        except core.OverlapError:
            return None  # perhaps with memory that no parameter has any more: a new plan tells

    def _step_further(
        self, outcome: core.Outcome | None, options: Options | None, *, observed: bool
    ) -> None:
        """The step where the plan has not done it all."""
        if self._swapped:
            raise RuntimeError("step: the parameters hold their averages (see averaged())")
        if observed or not self._is_ours():
            self._plan = None
            self._step_all_with_torch(options, by_group=not self._is_ours())
        elif outcome is None or outcome.stale:
            self._step_with_new_plan(options)
        elif self._plan is not None:
            self._step_remaining(self._plan, outcome, {}, {})

    def _step_with_new_plan(self, options: Options | None) -> None:
        self._plan = None
        outcome, self._overlaps = None, False
        if is_usual(self):
            try:
                plan, buffers, averages = self._make_plan(options)
                outcome = plan.step(self.param_groups, self.state, options)
            except core.OverlapError:
                self._overlaps = True  # nothing is written; where order decides, torch's is meant
        if outcome is None or outcome.stale:  # also: `params` is not a list
            self._step_all_with_torch(options, by_group=False)
        else:
            self._step_remaining(plan, outcome, buffers, averages)

    def _step_remaining(
        self,
        plan: core.Plan,
        outcome: core.Outcome,
        buffers: dict[Tensor, Tensor],
        averages: dict[Tensor, Tensor],
    ) -> None:
        """Steps what the plan could not, lets it finish, and makes new memory state."""
        made_some = bool(buffers or averages)
        if not outcome.done:
            try:
                self._finish(plan, outcome.remaining, buffers, averages)
            except BaseException:
                plan.forget()  # else it would keep the gradients alive
                raise
        # A plan that made some is used up: to it, each step would be the first.
        self._found = plan.clipping
        self._plan = None if made_some else plan

    def _finish(
        self,
        plan: core.Plan,
        remaining: list[core.Remaining],
        buffers: dict[Tensor, Tensor],
        averages: dict[Tensor, Tensor],
    ) -> None:
        torchs: dict[int, list[Tensor]] = defaultdict(list)
        with_rows: dict[tuple[int, bool], list[Tensor]] = defaultdict(list)
        for left in remaining:
            buffers.pop(left.param, None)
            averages.pop(left.param, None)
            buffer = slot_of(self, left.param, "momentum_buffer")
            if left.other_layout and has_row_gradient(left.param, buffer):
                first = buffer is None and self._sparse_rows == "dense"
                with_rows[left.group, first].append(left.param)
            else:
                torchs[left.group].append(left.param)
        self._refuse_rows(chain.from_iterable(torchs.values()))
        row_steps = [
            (index, self._row_step(index, params, buffers, first=first))
            for (index, first), params in with_rows.items()
        ]
        if torchs and explain.EXPLAINS:
            explain.explain_once(self)
        left_over = [(index, p) for index, params in torchs.items() for p in params]
        asked = measures(self._judging, self.param_groups)
        others = [
            *measured_of(left_over, asked),
            *chain.from_iterable(step.measured(index, asked) for index, step in row_steps),
        ]
        found = judge_with_others(self, plan, left_over, others, asked)
        if not found.skip:
            stages = found.stages[len(found.stages) - len(others) :]
            step_with_torch(self, left_over, stages[: len(left_over)])
            rest = iter(stages[len(left_over) :])
            for (_, step), params in zip(row_steps, with_rows.values(), strict=True):
                step.set_stages(list(islice(rest, len(params))))
            # Only now, when they hold something, does new memory become state.
            with slots_for(self, {**buffers, **averages}):
                slots = [
                    (self.state.setdefault(p, {}), key, tensor)
                    for key, new in (("momentum_buffer", buffers), ("ema", averages))
                    for p, tensor in new.items()
                ]
                plan.finish([step for _, step in row_steps], slots)
            for (index, _), params in with_rows.items():
                self._left(params, averaged=self.param_groups[index].get("ema_decay") is not None)
                average_params(self, self.param_groups[index], params)

    def _step_all_with_torch(self, options: Options | None, *, by_group: bool) -> None:
        """The step in torch's code; `by_group`: in the implementation that each group names."""
        if explain.EXPLAINS:
            explain.explain_once(self)
        for group in self.param_groups:
            check_terms(group)
        params = [
            (index, p)
            for index, group in enumerate(self.param_groups)
            for p in group["params"]
            if p.grad is not None
        ]
        self._refuse_rows(p for _, p in params)
        self._settle()
        self._found = None
        if options is not None or clips(self.param_groups):
            hyper = [core.read_group(group, i) for i, group in enumerate(self.param_groups)]
            asked = measures(self._judging, self.param_groups)
            measured = measured_of(params, asked)
            if asked and any_sharded(self):
                measured, _ = measured_together(self, params, measured)
            self._found = judge(measured, hyper, options)
        if self._found is None:
            step_with_torch(self, params, [], by_group=by_group)
        elif not self._found.skip:
            step_with_torch(self, params, self._found.stages, by_group=by_group)

    def _is_ours(self) -> bool:
        """Whether no argument chose torch's own implementation."""
        return self.defaults["foreach"] is None and self.defaults["fused"] is not False

    @torch._disable_dynamo  # type: ignore[attr-defined]  # not for torch.compile
    def _make_plan(
        self, options: Options | None
    ) -> tuple[core.Plan, dict[Tensor, Tensor], dict[Tensor, Tensor]]:
        """A plan for the optimizer as it is now, and the momentum and averages made for it.

        Those are empty: the plan's first step sets them. As they become state afterwards, the plan
        is then out of date and the next step makes the one that stays. Where a device may skip that
        step, it counts what they hold (`Counting`).

        Raises:
            ValueError: parameters or buffers share memory, or a buffer's shape does not fit.
        """
        momenta: dict[Tensor, Tensor] = {}
        averages: dict[Tensor, Tensor] = {}
        entries: list[core.Entry] = []
        may_skip = options is not None and options.may_skip
        for index, group in enumerate(self.param_groups):
            averages_kept = group.get("ema_decay") is not None
            for param in group["params"]:
                buffer, average = (
                    slot_of(self, param, "momentum_buffer"),
                    slot_of(self, param, "ema"),
                )
                covered = has_usual_slots(self, param) and is_shard_covered(
                    param, buffer, average if averages_kept else None
                )
                steps = covered and param.grad is not None
                first = steps and buffer is None and group["momentum"] != 0
                if first:
                    buffer = momenta[param] = made_for(param, new_buffer)
                first_average = steps and average is None and averages_kept
                if first_average:
                    average = averages[param] = new_average(param)
                if not covered:
                    buffer = None
                if not (covered and averages_kept):
                    average = None
                counts = None
                unsure = may_skip and (first or first_average) and is_on_device(param)
                if covered and (unsure or param in self._counts):
                    # Until it is set, it holds what does no harm to whoever looks at it.
                    if first:
                        momenta[param].fill_(-0.0)
                    if first_average:
                        averages[param].copy_(param.detach())
                    counts = self._counted(param, buffer, average, (first, first_average))
                slots = buffer, first, average, first_average
                entries.append((index, param, *slots, covered, counts, shard_of(param)))
        return core.Plan(self.param_groups, self.state, entries), momenta, averages

    def _row_step(
        self, index: int, params: list[Tensor], new: dict[Tensor, Tensor], *, first: bool
    ) -> RowStep:
        """A checked step on the rows that gradients name. Buffers made for it go into `new`.

        Args:
            index: the number of the group.
            params: of that group.
            new: by parameter.
            first: none of them has a buffer yet.
        """
        group = self.param_groups[index]
        buffers = []
        if group["momentum"] != 0:
            for param in params:
                buffer = slot_of(self, param, "momentum_buffer")
                if buffer is None:
                    buffer = new[param] = new_buffer(param, zeros=True)
                buffers.append(buffer)
        hyper = core.read_group(group, index)
        histories = self._histories(params, buffers)
        step = make_row_step(
            params,
            [p.grad for p in params],
            buffers,
            hyper,
            histories=histories,
            first_step=first and bool(buffers),
        )
        self._check_named(params, step)
        return step
