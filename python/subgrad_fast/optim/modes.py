"""Whether somebody looks on at torch's operations: kernels would go past them."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch.overrides import _get_current_function_mode_stack
from torch.utils._device import DeviceContext

# Each costs a step some 20 ns.
_dispatch_modes = torch._C._len_torch_dispatch_stack
_function_modes = torch._C._len_torch_function_stack
_transforms_active: Callable[[], bool] = torch._C._are_functorch_transforms_active


def is_observed() -> bool:
    """Whether a mode or a transform of functorch's is to see each of torch's operations.

    What ``torch.set_default_device`` installs is none: it concerns new tensors only.
    """
    if _dispatch_modes() or _transforms_active():
        return True
    return _function_modes() != 0 and not all(
        type(mode) is DeviceContext
        for mode in _get_current_function_mode_stack()  # type: ignore[no-untyped-call]
    )
