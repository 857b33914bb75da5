"""The thresholded step on plain arrays: only what is large enough is applied, nothing is lost."""

from __future__ import annotations

from subgrad_fast import _core
from subgrad_fast._arguments import flag, integer, one_of
from subgrad_fast._arrays import Array, Arrays, as_list, as_sequence
from subgrad_fast.dense import NormScope, clip_options
from subgrad_fast.rows import any_row_sparse
from subgrad_fast.select.magnitudes import is_together
from subgrad_fast.select.selectors import Reused, Selector, make_selector
from subgrad_fast.threshold.result import ThresholdResult

_INDEX_BYTES = {None: 0, "int32": 4, "int64": 8}


def index_bytes_of(emit: str | None) -> int:
    """The size of the indices that are reported; 0 for none. Raises TypeError or ValueError."""
    return _INDEX_BYTES[one_of("emit", emit, *_INDEX_BYTES)]


def _number_or_array(threshold: float | Array | None) -> tuple[float | None, Array | None]:
    """The threshold as a number; one on a device is read there, in place of the number."""
    if isinstance(threshold, float | int | None) or _core.cuda.device_of(threshold) is None:
        return threshold, None
    return 0.0, threshold


def threshold_step(
    params: Arrays,
    grads: Arrays,
    residuals: Arrays | None = None,
    momentum_buffers: Arrays | None = None,
    *,
    lr: float,
    threshold: float | Array | None = None,
    density: float | None = None,
    k: int | None = None,
    selector: Selector | str | None = None,
    scope: str = "tensor",
    momentum: float = 0.0,
    dampening: float = 0.0,
    weight_decay: float = 0.0,
    nesterov: bool = False,
    maximize: bool = False,
    decoupled_weight_decay: bool = False,
    momentum_correction: bool = True,
    momentum_masking: bool = True,
    error_feedback: bool = True,
    first_step: bool = False,
    emit: str | None = None,
    measure: bool = False,
    capacity: int | None = None,
    grad_scale: float = 1.0,
    max_norm: float | None = None,
    max_norm_scope: NormScope = "global",
    clip_value: float | None = None,
    skip_nonfinite: bool = False,
) -> ThresholdResult:
    """Updates `params` in place by the large entries of a step; `residuals` keep the others.

    What SGD would subtract (before the learning rate) is added to the residual ``v``, and only
    where ``v`` is large enough does it move the parameter::

        d = the direction of sgd_step: maximize, weight decay, momentum, dampening, Nesterov
        v = v + d
        kept = |v| is large enough (see the selectors)
        w = w * (1 - lr * weight_decay)    if decoupled_weight_decay, kept or not
        w = w - lr * v                     where kept
        v = nothing                        where kept; with momentum_masking m = nothing too

    Accumulating the momentum rather than the gradient is momentum correction, and forgetting it
    where it was applied is momentum factor masking, both of Deep Gradient Compression (Lin et al.,
    2018, arXiv:1712.01887). With ``momentum_correction=False`` it is the gradient (with its weight
    decay) that is accumulated; what is kept becomes the gradient of the momentum, 0 elsewhere, and
    ``w`` and ``m`` move everywhere.

    Nothing is lost: ``w - lr * v`` after any number of steps is what dense steps give, up to the
    rounding of each addition (at a constant `lr`, without weight decay and momentum masking, and
    with momentum correction if there is momentum). With a density of 1, or a threshold of 0, and
    ``momentum_masking=False`` the step has the bits of `sgd_step` whose momentum buffers have these
    dtypes. A residual that holds nothing is -0.0: that plus x is x for every x, signs of zeros
    included.

    Before all that gradients may be unscaled and clipped on their way, as in `sgd_step`: what comes
    of them goes into momentum and residual, while they stay as they are. With
    ``max_norm_scope="tensor"`` that is the local gradient clipping of Deep Gradient Compression.
    Clipping keeps a residual from taking up a gradient that is out of proportion, which would be
    applied much later.

    Results have the same bits on every instruction set and number of threads. Threshold selectors
    take one pass over memory, an exact density two; where nothing is kept neither the parameter's
    memory nor, with masking, the momentum's is touched a second time. NaN counts as the largest
    magnitude, so it is applied at once, as `sgd_step` would.

    Args:
        params: one array or a sequence of arrays, as in `sgd_step`.
        grads: as many arrays of the same shapes, as in `sgd_step`. (Gradients that name rows are
            for `row_step`.)
        residuals: as many arrays of the same shapes, float64 for float64 parameters and float32 for
            all others. Needed unless `error_feedback` is False, and then neither read nor written.
        momentum_buffers: as many arrays of the same shapes and of the residuals' dtypes. Needed if
            `momentum` is not 0.
        lr, momentum, dampening, weight_decay, nesterov, maximize, decoupled_weight_decay: as in
            `sgd_step`.
        threshold: keep magnitudes of at least this. On a device it may be a float64 array of one
            element there (`kth_magnitude` returns such), which is read when the step runs.
        density: keep this share, exactly; ``max(1, floor(density * n + 0.5))`` of n elements.
        k: keep so many, exactly. One of `threshold`, `density`, `k` and `selector` is given.
        selector: a selector (`Absolute`, `Exact`, `Sampled`, `Reused`), or the name of one that
            takes the number given.
        scope: "tensor", a threshold for each array; "global", one for all of them.
        momentum_correction: accumulate the direction, momentum included.
        momentum_masking: forget the momentum where it was applied; only with momentum correction.
        error_feedback: False drops what is not kept.
        first_step: residuals and momentum buffers hold nothing yet: they are not read.
        emit: "int32" or "int64" reports which elements were applied, with indices of that type into
            the flattened (row-major) array, and the values.
        measure: report the energies.
        capacity: on a device, with `emit`: room for so many entries of each array. The selections
            have that length, of which the first ``device_kept[i]`` are set, and what has no room
            stays in the residual; nothing is read by the host, so a graph can be captured. Without
            it the host waits for the counts once, to make arrays of just that length.
        grad_scale, max_norm, max_norm_scope, clip_value, skip_nonfinite: as in `sgd_step`; for
            arrays in CPU memory. A step that is skipped writes nothing and keeps nothing: its
            thresholds are infinity, its energies NaN, and ``Reused`` goes on with what it had.

    On a device (CUDA tensors, PyTorch 2.10 or newer) the step runs in torch's current stream there,
    all arrays in the order of their parameters, those of a global scope on one device. Parameters,
    residuals, momentum, indices and values have the CPU's bits; energies the same ones in every
    run. ``Sampled`` and ``Reused`` select exactly there. The result's numbers stay on the device
    until they are looked at.

    Raises:
        TypeError: an argument is not an array, or its dtype or layout is not supported; or the
            tensors of one global threshold are not all computed in one dtype.
        ValueError: lengths, shapes or devices do not fit, an array to be written is read-only or
            shares memory with another, gradients on a device are to be looked at, or a
            hyper-parameter is out of range. The message names the argument and its index. Nothing
            has been written then.
    """
    hyper = _core.SgdParams(
        lr,
        momentum=momentum,
        dampening=dampening,
        weight_decay=weight_decay,
        nesterov=nesterov,
        maximize=maximize,
        decoupled_weight_decay=decoupled_weight_decay,
        max_norm=max_norm,
        clip_value=clip_value,
    )
    clip = clip_options(max_norm_scope, False, skip_nonfinite, grad_scale)
    params, grads = as_sequence(params), as_sequence(grads)
    if any_row_sparse(as_list(grads) if isinstance(params, list | tuple) else [grads]):
        raise TypeError("grads: name rows; row_step applies such gradients")
    threshold, on_device = _number_or_array(threshold)
    chosen = make_selector(selector, threshold, density, k)
    together = is_together(scope)
    index_bytes = index_bytes_of(emit)
    error_feedback = flag("error_feedback", error_feedback)
    if error_feedback and residuals is None:
        raise ValueError("residuals: needed, unless error_feedback is False")
    if momentum != 0.0 and momentum_buffers is None:
        raise ValueError("momentum_buffers: needed, since momentum is not 0")
    if capacity is not None:
        capacity = integer("capacity", capacity)
        if emit is None:
            raise ValueError("capacity: has a meaning beside emit only")

    count = len(params) if isinstance(params, list | tuple) else 1
    first_step = flag("first_step", first_step)
    call = _core.threshold.Call(index_bytes, flag("measure", measure), clip)
    call.add(
        params,
        grads,
        as_sequence(residuals) if error_feedback else None,
        as_sequence(momentum_buffers) if momentum != 0.0 else None,
        hyper,
        momentum_correction=flag("momentum_correction", momentum_correction),
        momentum_masking=flag("momentum_masking", momentum_masking),
        choice=chosen.choice,
        together=together,
        first=[first_step] * count,
        fresh=[first_step] * count,
        last=chosen.thresholds if isinstance(chosen, Reused) else [],
    )
    kept = chosen.thresholds if isinstance(chosen, Reused) else None
    return ThresholdResult(call.run(threshold=on_device, capacity=capacity, thresholds=kept))
