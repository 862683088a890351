"""Forward hooks on modules that copies and pickles of the modules do not have.

PyTorch copies the hooks of a module with it, and with them everything that they refer to. Hooks of a copy could not be
removed.
"""

from __future__ import annotations

import copyreg
import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from torch import nn
from torch.utils.hooks import RemovableHandle

_guard = threading.RLock()


class _Reduction:
    """Reduces a module for copy and pickle as if it had no hooks of this package.

    It stands in the attribute `__reduce_ex__` of the module itself as long as there is such a hook.

    Args:
        module: The module.
    """

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        self.handles: list[RemovableHandle] = []

    def __call__(self, protocol: Any) -> Any:
        numbers: dict[int, set[int]] = {}  # of the hooks, by the dictionary of the module that holds them
        for handle in list(self.handles):
            for reference in (handle.hooks_dict_ref, *handle.extra_dict_ref):
                numbers.setdefault(id(reference()), set()).add(handle.id)
        state: dict[str, Any] = {}
        for name, value in vars(self.module).items():
            if id(value) in numbers:
                remaining = [item for item in value.items() if item[0] not in numbers[id(value)]]
                state[name] = OrderedDict(remaining)
            elif value is not self:
                state[name] = value
        return copyreg.__newobj__, (type(self.module),), state  # pyright: ignore[reportAttributeAccessIssue]


def hook_forward(
    module: nn.Module,
    before: Callable[..., Any],
    after: Callable[..., Any],
    *,
    with_kwargs: bool = False,
    prepend: bool = False,
) -> Callable[[], None]:
    """Register a hook before and one after the forward pass of a module. Copies of the module have neither.

    Args:
        module: The module.
        before: Called as a forward pre-hook.
        after: Called as a forward hook, after a forward pass that raised too.
        with_kwargs: Whether `before` receives the keyword arguments.
        prepend: Whether `before` runs before other pre-hooks.

    Returns:
        A function that removes both.
    """
    handles = [
        module.register_forward_pre_hook(before, with_kwargs=with_kwargs, prepend=prepend),
        module.register_forward_hook(after, always_call=True),
    ]
    with _guard:
        reduction = vars(module).get("__reduce_ex__")
        if not isinstance(reduction, _Reduction):
            reduction = vars(module)["__reduce_ex__"] = _Reduction(module)
        reduction.handles += handles

    def remove() -> None:
        for handle in handles:
            handle.remove()
        with _guard:
            reduction.handles = [handle for handle in reduction.handles if handle not in handles]
            if not reduction.handles and vars(module).get("__reduce_ex__") is reduction:
                del vars(module)["__reduce_ex__"]

    return remove
