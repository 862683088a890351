"""Recognises denoisers under torch.compile, which has no public query for it.

`torch.compile(module)` keeps the module in `_orig_mod`; `module.compile()` sets `_compiled_call_impl`. Requested as a
public API in https://github.com/pytorch/pytorch/issues/103553. Without these names, no module counts as compiled.
"""

from __future__ import annotations

from typing import Any

from torch import nn


def uncompiled(module: Any) -> Any:
    """Unwrap a module.

    Args:
        module: A module, perhaps the result of `torch.compile`.

    Returns:
        The module that was compiled, or `module` itself.
    """
    return getattr(module, "_orig_mod", module)


def is_compiled(module: nn.Module) -> bool:
    """Whether a module, or any module inside it, is compiled.

    Args:
        module: A module, perhaps the result of `torch.compile`.

    Returns:
        True if torch.compile is at work anywhere in it.
    """
    if uncompiled(module) is not module:
        return True
    return any(
        getattr(part, "_compiled_call_impl", None) is not None or type(part).__name__ == "OptimizedModule"
        for part in module.modules()
    )
