"""Deltas: what chosen elements of a model have become, put into the model and taken out again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from subgrad_fast import _core
from subgrad_fast._arrays import Array, is_torch, refuse_masked, require_array
from subgrad_fast.chosen.step import as_indices

Delta: TypeAlias = "dict[str, tuple[Array, Array]]"
"""By a parameter's name, which of its elements (row-major positions, ascending) have which values.
"""

_ENDINGS = (".indices", ".values")


def _named_arrays(model: Any) -> Mapping[str, Array]:
    """The parameters of a module of torch, or arrays by name, as they are."""
    if isinstance(model, Mapping):
        return model
    named = getattr(model, "named_parameters", None)
    if not callable(named):
        raise TypeError(f"model: expected a module or a dict of arrays, got {type(model).__name__}")
    return dict(named())


def _refuse_masked(arrays: Sequence[Any], name: str) -> None:
    for array in arrays:
        if isinstance(array, np.ndarray):
            refuse_masked(array, name)


def _parts(entry: Any, name: str) -> tuple[npt.NDArray[Any], Array]:
    """Checked indices of a delta's entry, and a copy of its values."""
    if not isinstance(entry, tuple | list) or len(entry) != 2:
        raise TypeError(f"{name}: expected (indices, values), got {type(entry).__name__}")
    indices, values = entry
    require_array(values, name)
    copied = values.detach().clone() if is_torch(values) else np.array(values)
    return as_indices(indices, name), copied


def _swapped(model: Any, delta: Delta) -> Delta:
    """Puts a delta into a model; what was there is returned."""
    arrays = _named_arrays(model)
    if not isinstance(delta, Mapping):
        raise TypeError(f"delta: expected a dict, got {type(delta).__name__}")
    params, numbers, values, names = [], [], [], []
    for name, entry in delta.items():
        if name not in arrays:
            raise ValueError(f"delta: the model has no parameter {name!r}")
        params.append(arrays[name])
        indices, copied = _parts(entry, f"delta[{name!r}]")
        numbers.append(indices)
        values.append(copied)
        names.append((f"model[{name!r}]", f"delta[{name!r}]"))
    _core.chosen.swap(params, numbers, values, names)
    return {name: (delta[name][0], before) for name, before in zip(delta, values, strict=True)}


def apply_delta_(model: Any, delta: Delta) -> Delta:
    """Puts the values of a delta into a model, in place, to the bit.

    Only the elements that the delta names are read or written, so that several deltas of one base
    model can take turns::

        base = sf.apply_delta_(model, french)
        ...
        sf.revert_delta_(model, base)  # the base model again, to the bit
        base = sf.apply_delta_(model, german)

    Args:
        model: a ``torch.nn.Module``, or a dict of arrays by name, of the dtypes of `sgd_step`, in
            CPU memory. Any strides. Tensors that require a gradient are written as under
            ``torch.no_grad()``.
        delta: by the names of some of its parameters ``(indices, values)``: positions in the
            row-major flattened parameter, int32 or int64, ascending; as many values of the
            parameter's dtype. ``SupportSGD.delta`` makes one. It stays as it is.

    Returns:
        What the elements held before, in the same form, with the same indices.

    Raises:
        TypeError: `model` or `delta` is none, or an array has another dtype.
        ValueError: the model lacks a parameter, indices do not ascend or are too large, or numbers
            do not fit. Nothing has been written then.
    """
    return _swapped(model, delta)


def revert_delta_(model: Any, base: Delta) -> None:
    """Puts back what `apply_delta_` found, in place, to the bit.

    Args:
        model: as in `apply_delta_`.
        base: what `apply_delta_` returned. It stays as it is.

    Raises:
        TypeError, ValueError: as `apply_delta_` does.
    """
    _swapped(model, base)


def flatten_delta(delta: Any) -> dict[str, Array]:
    """A delta as arrays by name, as safetensors, ``numpy.savez`` and the like save them::

        safetensors.torch.save_file(sf.flatten_delta(delta), "french.safetensors")

    Args:
        delta: as in `apply_delta_`.

    Returns:
        For each name of the delta ``name.indices`` and ``name.values``; the same arrays.

    Raises:
        TypeError: `delta` is none, or an array has a mask.
    """
    if not isinstance(delta, Mapping):
        raise TypeError(f"delta: expected a dict, got {type(delta).__name__}")
    flat = {}
    for name, entry in delta.items():
        if not isinstance(entry, tuple | list) or len(entry) != 2:
            raise TypeError(
                f"delta[{name!r}]: expected (indices, values), got {type(entry).__name__}"
            )
        _refuse_masked(entry, f"delta[{name!r}]")
        flat.update({name + ending: array for ending, array in zip(_ENDINGS, entry, strict=True)})
    return flat


def unflatten_delta(arrays: Mapping[str, Array]) -> Delta:
    """The delta that `flatten_delta` made arrays of.

    Args:
        arrays: what was saved, by name.

    Raises:
        TypeError: `arrays` is no dict, or one has a mask.
        ValueError: a name ends otherwise, or one of a pair is missing.
    """
    if not isinstance(arrays, Mapping):
        raise TypeError(f"arrays: expected a dict, got {type(arrays).__name__}")
    delta: Delta = {}
    for key in arrays:
        name = next(
            (str(key).removesuffix(end) for end in _ENDINGS if str(key).endswith(end)), None
        )
        if name is None:
            raise ValueError(f"arrays: expected names that end in .indices or .values, got {key!r}")
        pair = [name + end for end in _ENDINGS]
        missing = [wanted for wanted in pair if wanted not in arrays]
        if missing:
            raise ValueError(f"arrays: {missing[0]} missing")
        for part in pair:
            _refuse_masked([arrays[part]], f"arrays[{part!r}]")
        delta[name] = (arrays[pair[0]], arrays[pair[1]])
    return delta
