"""Recognises denoisers under torch.compile, which has no public query for it.

`torch.compile(module)` keeps the module in `_orig_mod`; `module.compile()` sets `_compiled_call_impl`;
`torch.compile(function)` returns a function with `_torchdynamo_orig_callable`, which may take the place of a module's
`forward`, or of its processor. Requested as a public API in https://github.com/pytorch/pytorch/issues/103553. Without
these names, nothing counts as compiled.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

from torch import nn

# Nearly all attributes of a module are of these types, and modules inside it are looked at themselves.
_NO_FUNCTION = (bool, int, float, str, tuple, list, dict, set, type(None), nn.Module)


def uncompiled(module: Any) -> Any:
    """Unwrap a module.

    Args:
        module: A module, perhaps the result of `torch.compile`.

    Returns:
        The module that was compiled, or `module` itself.
    """
    return getattr(module, "_orig_mod", module)


def is_compiled(module: nn.Module) -> bool:
    """Whether a module, or any module, method or processor inside it, is compiled.

    Args:
        module: A module, perhaps the result of `torch.compile`.

    Returns:
        True if torch.compile is at work anywhere in it.
    """
    if uncompiled(module) is not module:
        return True
    seen: set[int] = set()  # most modules share the methods of a few classes
    return any(_has_compiled_call(part, seen) for part in module.modules())


def _has_compiled_call(module: nn.Module, seen: set[int]) -> bool:
    if getattr(module, "_compiled_call_impl", None) is not None or type(module).__name__ == "OptimizedModule":
        return True
    processor = getattr(module, "processor", None)
    # the attributes of an object are its own, or replace methods; hooks of accelerate keep the forward they replace
    functions = [
        value
        for owner in (module, processor)
        for value in getattr(owner, "__dict__", {}).values()
        if not isinstance(value, _NO_FUNCTION)
    ]
    for function in (type(module).forward, processor, type(processor).__call__ if callable(processor) else None):
        if function is not None and id(function) not in seen:
            seen.add(id(function))
            functions.append(function)
    return any(_is_compiled_function(layer) for function in functions for layer in _unwrapped(function))


def _is_compiled_function(value: Any) -> bool:
    if not callable(value) or isinstance(value, nn.Module) or getattr(value, "_torchdynamo_disable", False):
        return False  # `torch.compiler.disable` keeps what it wraps as well
    return hasattr(value, "_torchdynamo_orig_callable")


def _unwrapped(function: Any) -> Iterator[Any]:
    """A function, and those that it wraps: partial functions, bound methods, decorators."""
    for _ in range(16):
        yield function
        if isinstance(function, functools.partial):
            function = function.func
        else:
            function = getattr(function, "__wrapped__", None) or getattr(function, "__func__", None)
        if function is None:
            return
