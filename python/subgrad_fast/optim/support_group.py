"""What a group of `optim.SupportSGD` stores, and how its support is found."""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from subgrad_fast import _core
from subgrad_fast._arguments import flag, integer, number, one_of, quoted
from subgrad_fast._core import SgdParams
from subgrad_fast.chosen.step import support_step
from subgrad_fast.optim.dtensor import shard_of
from subgrad_fast.optim.tensors import why_not_dense
from subgrad_fast.sampling import choose
from subgrad_fast.select.magnitudes import is_together, select
from subgrad_fast.select.selectors import check_density

Group = dict[str, Any]
State = dict[Tensor, Group]

# The terms of the step. Groups of another optimizer may have more, which are nothing to this one.
_TERMS = tuple(
    name for name in _core.SGD_TERMS if name in inspect.signature(support_step).parameters
)
_INT32_MAX = 2**31 - 1
_INTEGERS = (torch.int32, torch.int64)
_FLOATS = (torch.float32, torch.float64, torch.bfloat16, torch.float16)

SCORES = ("gradient", "fisher", "weight", "random")
ADDED_UP = ("gradient", "fisher")
"""Scores that gradients add up to, over some backward passes."""
PASSES = 10
"""How many, where nobody says."""


def hyper_of(group: Group) -> SgdParams:
    """The terms of a group's step."""
    return SgdParams(**{name: group[name] for name in _TERMS if name in group})


def wide_dtype(param: Tensor) -> torch.dtype:
    """The dtype that a parameter's scores are added up in."""
    return torch.float64 if param.dtype is torch.float64 else torch.float32


def check_group(group: Group) -> None:
    """Raises TypeError or ValueError, by its name, for a setting that is out of range."""
    hyper_of(group)
    if group["density"] is not None:
        check_density(group["density"])
    if group["k"] is not None:
        integer("k", group["k"])
    given = [name for name in ("density", "k", "masks") if group.get(name) is not None]
    if len(given) != 1 and not (group.get("chosen") and not given):
        said = " and ".join(given) or "none"
        raise ValueError(f"density, k, masks: expected exactly one of them, got {said}")
    one_of("score", group["score"], *SCORES)
    is_together(group["scope"])
    integer("seen", group["seen"])
    flag("chosen", group["chosen"])
    if group["calibrate"] is None:
        return
    integer("calibrate", group["calibrate"], 1)
    if group["score"] not in ADDED_UP or "masks" in given:
        raise ValueError("calibrate: has a meaning beside the scores 'gradient' and 'fisher' only")


def check_params(params: Iterable[Tensor]) -> None:
    """Raises TypeError or ValueError for a parameter that the kernels do not cover."""
    for i, param in enumerate(params):
        if shard_of(param) is not None:
            raise TypeError(f"params[{i}]: is a DTensor, of which no elements can be chosen")
        if param.device.type != "cpu":
            raise ValueError(
                f"params[{i}]: is on {param.device}, where the step on chosen elements has no "
                "kernels"
            )
        if why := why_not_dense(param):
            raise TypeError(f"params[{i}]: expected a dense tensor, got one {why}")


def check_slots(state: dict[Any, Group], numbers: list[Any], params: list[Tensor]) -> None:
    """Raises TypeError for what a saved state holds and is no tensor of its kind, ValueError for
    one that does not fit its parameter.

    Args:
        state: what is saved, by the numbers of parameters.
        numbers: those of the parameters, in their order.
        params: the parameters that it is to be loaded for.
    """
    for number_, param in zip(numbers, params, strict=False):
        slots = state.get(number_, {})
        chosen = slots.get("indices")
        kinds = {
            "indices": (_INTEGERS, None if chosen is None else (numel_of(chosen),)),
            "momentum_buffer": (_FLOATS, None if chosen is None else (numel_of(chosen),)),
            "score": (_FLOATS, tuple(param.shape)),
        }
        for name, (dtypes, shape) in kinds.items():
            if (given := slots.get(name)) is None:
                continue
            where = f"state_dict['state'][{quoted(number_)}][{name!r}]"
            if not isinstance(given, Tensor) or given.dtype not in dtypes:
                got = given.dtype if isinstance(given, Tensor) else quoted(given)
                wanted = " or ".join(str(dtype).removeprefix("torch.") for dtype in dtypes)
                raise TypeError(f"{where}: expected a tensor of {wanted}, got {got}")
            if tuple(given.shape) != shape:
                raise ValueError(f"{where}: expected shape {shape}, got {tuple(given.shape)}")
        if chosen is not None and numel_of(chosen) > 0:
            beyond = int(chosen[0]) < 0 or int(chosen[-1]) >= param.numel()
            if beyond or not bool((chosen[1:] > chosen[:-1]).all()):
                where = f"state_dict['state'][{quoted(number_)}]['indices']"
                raise ValueError(f"{where}: expected ascending numbers below {param.numel()}")


def numel_of(tensor: Any) -> int:
    """Elements of a tensor; 0 of what is none."""
    return tensor.numel() if isinstance(tensor, Tensor) else 0


def index_dtype(param: Tensor) -> torch.dtype:
    """int32 where it can number the elements."""
    return torch.int32 if param.numel() <= _INT32_MAX else torch.int64


def indices_of_masks(masks: Any, params: Sequence[Tensor]) -> list[Tensor]:
    """By parameter, where its mask is True.

    Raises:
        TypeError: they are no sequence of bool tensors.
        ValueError: their number or a shape does not fit.
    """
    if isinstance(masks, str | bytes) or not isinstance(masks, Iterable):
        raise TypeError(f"masks: expected a sequence of bool tensors, got {quoted(masks)}")
    masks = list(masks)
    if len(masks) != len(params):
        raise ValueError(f"masks: expected {len(params)} like the parameters, got {len(masks)}")
    found = []
    for i, (mask, param) in enumerate(zip(masks, params, strict=True)):
        if not isinstance(mask, Tensor) or mask.dtype is not torch.bool:
            got = mask.dtype if isinstance(mask, Tensor) else quoted(mask)
            raise TypeError(f"masks[{i}]: expected a bool tensor, got {got}")
        if mask.shape != param.shape:
            raise ValueError(
                f"masks[{i}]: expected shape {tuple(param.shape)}, got {tuple(mask.shape)}"
            )
        flat = mask.detach().cpu().reshape(-1)
        found.append(flat.nonzero().reshape(-1).to(index_dtype(param)))
    return found


def look(group: Group, state: State) -> None:
    """Adds the gradients of one backward pass to the scores."""
    for param in group["params"]:
        if (grad := param.grad) is None:
            continue
        if grad.layout is not torch.strided:
            raise TypeError(f"grads: expected dense gradients, got one of layout {grad.layout}")
        values = grad.detach().to(wide_dtype(param))
        seen = values.abs() if group["score"] == "gradient" else values.square()
        slots = state.setdefault(param, {})
        if "score" in slots:
            slots["score"].add_(seen)
        else:
            slots["score"] = torch.empty_like(param.detach(), dtype=seen.dtype).copy_(seen)


def _count(group: Group, elements: int) -> int:
    """How many of these are chosen: of a share the nearest number, at least one unless it is 0."""
    k: int | None = group["k"]
    if k is not None:
        return min(k, elements)
    density = number("density", group["density"])
    if density == 0.0:
        return 0
    return min(elements, max(1, math.floor(density * elements + 0.5)))


def _drawn(params: list[Tensor], group: Group, seed: int) -> list[Tensor]:
    """Indices drawn without replacement, of all parameters together."""
    elements = sum(param.numel() for param in params)
    drawn = torch.from_numpy(choose(elements, _count(group, elements), seed=seed)).sort().values
    ends = torch.tensor([0, *(param.numel() for param in params)]).cumsum(0)
    cuts = torch.searchsorted(drawn, ends)
    return [drawn[cuts[i] : cuts[i + 1]] - ends[i] for i in range(len(params))]


def _largest(params: list[Tensor], scores: list[Tensor], group: Group) -> list[Tensor]:
    """Indices of the largest scores, of all parameters together."""
    if len({wide_dtype(param) for param in params}) > 1:
        raise TypeError(
            "scope: one support for all needs one type, and of its parameters some are float64"
        )
    wide = any(param.numel() > _INT32_MAX for param in params)
    k = _count(group, sum(param.numel() for param in params))
    found = select(scores, k=k, scope="global", index_dtype="int64" if wide else "int32")
    return [selection.indices for selection in found]


def find_support(group: Group, state: State) -> None:
    """Chooses the elements of a group: by their scores, or by chance. Scores are dropped."""
    score = group["score"]
    if score in ADDED_UP:
        params = [param for param in group["params"] if "score" in state.get(param, {})]
        scores = [state[param]["score"] for param in params]
    else:
        params = [param for param in group["params"] if param.requires_grad]
        scores = [param.detach() for param in params]
    every = range(len(params))
    scopes = [[*every]] if is_together(group["scope"]) else [[i] for i in every]
    chosen: list[tuple[Tensor, Tensor]] = []
    for members in filter(None, scopes):
        mine = [params[i] for i in members]
        if score == "random":
            found = _drawn(mine, group, int(torch.randint(2**62, ())))
        else:
            found = _largest(mine, [scores[i] for i in members], group)
        chosen += zip(mine, found, strict=True)
    for param, indices in chosen:
        slots = state.setdefault(param, {})
        slots.pop("score", None)
        slots["indices"] = indices.to(index_dtype(param))
    group["chosen"] = True
