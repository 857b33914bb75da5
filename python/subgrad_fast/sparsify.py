"""Weights made sparse, in place: shrinkage, the largest, N:M patterns and fixed supports."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from subgrad_fast import _core
from subgrad_fast._arguments import check_names, integer, number, quoted
from subgrad_fast._arrays import (
    Array,
    Arrays,
    as_list,
    as_sequence,
    is_torch,
    raw_view,
    require_array,
)
from subgrad_fast.select.magnitudes import check_amount, is_together


def _penalty(name: str, value: float) -> float:
    if not 0.0 <= (penalty := number(name, value)) < float("inf"):  # so that NaN is refused too
        raise ValueError(f"{name}: expected a finite number >= 0, got {quoted(value)}")
    return penalty


def soft_threshold_(x: Arrays, lam: float) -> None:
    """Shrinks every weight towards zero by `lam`, in place::

        w = sign(w) * max(|w| - lam, 0)

    This is the proximal operator of ``lam * |w|_1`` (Daubechies, Defrise and De Mol 2004; ISTA:
    Beck and Teboulle 2009). What is shrunk away becomes +0; NaN stays NaN; ``lam = 0`` changes no
    bit. `sgd_step(..., l1=)` does the same within its step, with ``lam = lr * l1``.

    Args:
        x: one array or a sequence of arrays, NumPy or torch CPU tensors or both, of dtype float32,
            float64, float16 or bfloat16. Any shape and strides. The last two are computed in
            float32 and rounded once, to nearest even.
        lam: how far, >= 0 and finite.

    Raises:
        TypeError: an argument is not an array, or its dtype or layout is not supported.
        ValueError: an array is read-only, not in CPU memory or shares memory with another, or `lam`
            is out of range. The message names the argument and its index. Nothing has been written
            then.
    """
    _core.sparsify.shrink(as_sequence(x), _penalty("lam", lam), 1.0)


def elastic_net_(x: Arrays, l1: float, l2: float) -> None:
    """The proximal operator of the elastic net (Zou and Hastie 2005), in place::

        w = sign(w) * max(|w| - l1, 0) / (1 + l2)

    of ``l1 * |w|_1 + l2/2 * |w|_2^2``. The division is a multiplication by the rounded reciprocal.
    For a step with learning rate lr pass ``lr * l1`` and ``lr * l2``. `sgd_step` with `l1` and
    `weight_decay` has the same minimum: there the second term is part of the gradient.

    Args:
        x: as in `soft_threshold_`.
        l1, l2: the weights of the two terms, >= 0 and finite.

    Raises:
        TypeError, ValueError: as `soft_threshold_` does.
    """
    l1, l2 = _penalty("l1", l1), _penalty("l2", l2)
    _core.sparsify.shrink(as_sequence(x), l1, 1.0 / (1.0 + l2))


def group_soft_threshold_(x: Arrays, lam: float) -> None:
    """Shrinks every row of every array towards zero by `lam`, in place::

        w[i] = w[i] * max(1 - lam / ||w[i]||_2, 0)

    This is the proximal operator of the group lasso (Yuan and Lin 2006): rows vanish as a whole. A
    row is all of ``w[i]``, whatever its shape, such as the weights into one output of a linear or
    convolutional layer; for columns pass ``w.T``. Norms are summed in float64 in a fixed order.
    Rows that vanish are +0; a row with a NaN becomes NaN; one with an infinity stays as it is.

    Args:
        x: as in `soft_threshold_`. The rows of a vector are its elements.
        lam: how far, >= 0 and finite. Yuan and Lin take ``lam * sqrt(row length)``.

    Raises:
        TypeError, ValueError: as `soft_threshold_` does.
    """
    _core.sparsify.shrink_rows(as_sequence(x), _penalty("lam", lam))


def hard_threshold_(
    x: Arrays,
    *,
    k: int | None = None,
    density: float | None = None,
    threshold: float | None = None,
    scope: str = "tensor",
) -> None:
    """Keeps the largest magnitudes, in place; all other weights become +0.

    With `k` or `density` this is the projection onto the arrays with so many non-zeros (L0; a step
    and then this is iterative hard thresholding, Blumensath and Davies 2009). Exactly `k` entries
    are kept, the first ones where magnitudes are equal; NaN counts as largest. What is kept keeps
    its bits.

    Args:
        x: as in `soft_threshold_`.
        k: how many are kept.
        density: the share that is kept, 0 to 1: rounded to the nearest count, half up, but at least
            one unless it is 0.
        threshold: what is kept has magnitude >= this, or is NaN; >= 0. Rounded to the type that an
            array is computed in.
        scope: "tensor" counts in each array, "global" in all together; then float64 arrays cannot
            be mixed with others. Of no meaning to `threshold`.

    Raises:
        TypeError, ValueError: as `soft_threshold_` does; and unless exactly one of `k`, `density`
            and `threshold` is given and in range.
    """
    amount = check_amount("hard_threshold_", threshold, density, k)
    _core.sparsify.hard_threshold(as_sequence(x), *amount, is_together(scope))


def n_m_(x: Arrays, n: int = 2, m: int = 4) -> None:
    """Keeps the `n` largest magnitudes of every `m` neighbours, in place; the others become +0.

    Neighbours lie along the last dimension, as sparse tensor cores want it (2:4, Mishra et al.
    2021).
    Of equal magnitudes the first is kept; NaN counts as largest.

    Args:
        x: as in `soft_threshold_`; the last dimension of each is a multiple of `m`.
        n: how many stay, 0 <= n <= m.
        m: how many neighbours are a group, 1 <= m <= 32.

    Raises:
        TypeError, ValueError: as `soft_threshold_` does, and where a shape does not fit.
    """
    n, m = integer("n", n), integer("m", m)
    if not 1 <= m <= _core.sparsify.MAX_PATTERN:
        raise ValueError(f"m: expected 1 <= m <= {_core.sparsify.MAX_PATTERN}, got {m!r}")
    if not 0 <= n <= m:
        raise ValueError(f"n: expected 0 <= n <= m = {m}, got {n!r}")
    _core.sparsify.keep_pattern(as_sequence(x), n, m)


def apply_mask_(x: Arrays, mask: Arrays) -> None:
    """Sets to +0, in place, what is False in `mask`; whatever it was, NaN too.

    Args:
        x: as in `soft_threshold_`.
        mask: as many arrays of the same shapes, NumPy or torch, of dtype bool. Any strides.

    Raises:
        TypeError, ValueError: as `soft_threshold_` does, and where a mask does not fit.
    """
    x = as_sequence(x)
    single = not isinstance(x, list | tuple)
    masks = as_list(mask)
    if len(masks) != (count := len(as_list(x))):
        raise ValueError(f"mask: expected {count} arrays like x, got {len(masks)}")
    names = ["mask" if single else f"mask[{i}]" for i in range(len(masks))]
    _core.sparsify.apply_masks(x, [raw_view(m, name) for m, name in zip(masks, names, strict=True)])


def _support(array: Array) -> Array:
    if is_torch(array):
        return array.detach() != 0
    values = array if isinstance(array, np.ndarray) else np.from_dlpack(array)
    return np.asarray(np.not_equal(values, 0))  # which is a number for an array of no dimensions


class Mask:
    """The support of parameters, kept: entries outside it are exactly +0 after every step.

    With momentum a weight that was set to zero moves again at the next step, even if its gradient
    is zero. A `Mask` sets it back, and its momentum, so that nothing builds up there::

        sf.hard_threshold_(params, density=0.1)
        mask = sf.Mask(params)                     # the support as it is now
        mask.attach(optimizer)                     # torch: after every optimizer.step()

        step(grads)                                # or by hand, here with a FusedSGD
        mask.apply(step.momentum_buffers)

    ``torch.nn.utils.prune`` keeps dense weights and multiplies them by a mask in each forward pass.
    Here the parameters themselves are zero, so nothing is left to be removed afterwards.

    Args:
        params: the parameters, as in `soft_threshold_`. They are held.
        masks: bool arrays of their shapes, True where a parameter may be other than zero. They are
            held, and applied at once. None (the default) takes the support from the parameters:
            where they are not zero.

    Raises:
        TypeError, ValueError: as `apply_mask_` does.
    """

    def __init__(self, params: Arrays, masks: Arrays | None = None) -> None:
        self._params = as_list(params)
        for i, param in enumerate(self._params):
            require_array(param, f"params[{i}]" if isinstance(params, list | tuple) else "params")
        self._masks = [_support(p) for p in self._params] if masks is None else as_list(masks)
        self.apply()

    @property
    def masks(self) -> list[Array]:
        """One bool array for each parameter, True in its support. May be edited."""
        return self._masks

    @property
    def density(self) -> float:
        """The share of entries within the support; 1 where there are no entries."""
        views = [raw_view(m, "mask") for m in self._masks]
        size = sum(v.size for v in views)
        return sum(int(np.count_nonzero(v)) for v in views) / size if size else 1.0

    def record(self) -> None:
        """Takes the support anew from the parameters, as after they were made sparser."""
        self._masks = [_support(p) for p in self._params]

    def apply(self, *buffers: Sequence[Array]) -> None:
        """Sets to +0 what lies outside the support, of the parameters and of the lists given.

        Args:
            buffers: lists as long as the parameters', such as their momentum buffers. An empty list
                is passed over.

        Raises:
            TypeError, ValueError: as `apply_mask_` does.
        """
        lists = [self._params, *filter(len, buffers)]
        apply_mask_([array for arrays in lists for array in arrays], self._masks * len(lists))

    def attach(self, optimizer: Any) -> Any:
        """Has a torch optimizer apply this mask after each of its steps.

        Of its state, tensors of a parameter's shape are masked too (momentum and the like).

        Returns:
            A handle; ``handle.remove()`` ends it.
        """

        def keep_support(optimizer: Any, _args: Any, _kwargs: Any) -> None:
            arrays, masks = list(self._params), list(self._masks)
            for p, mask in zip(self._params, self._masks, strict=True):
                for value in optimizer.state.get(p, {}).values():
                    alike = is_torch(value) and (value.shape, value.layout) == (p.shape, p.layout)
                    if alike and value.is_floating_point():
                        arrays.append(value)
                        masks.append(mask)
            apply_mask_(arrays, masks)

        return optimizer.register_step_post_hook(keep_support)

    def state_dict(self) -> dict[str, Any]:
        """What a resume needs beside the parameters: copies of the masks."""
        return {"masks": [m.clone() if is_torch(m) else np.array(m) for m in self._masks]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes over what `state_dict` returned, and applies it.

        Raises:
            TypeError, ValueError: as `apply_mask_` does; then the masks are as before.
        """
        check_names(state, ("masks",))
        given = as_list(state["masks"])
        for i, mask in enumerate(given):
            raw_view(mask, f"mask[{i}]")  # what can be copied at all
        masks = [m.clone() if is_torch(m) else np.array(m) for m in given]
        apply_mask_(self._params, masks)
        self._masks = masks
