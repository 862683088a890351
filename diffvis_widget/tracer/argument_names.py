"""The arguments of a call by name, also where an override hands them on as `*args` and `**kwargs`."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any


def arguments_by_name(function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Name the arguments of a call, defaults included.

    Args:
        function: A function, or a method of an object.
        args: Positional arguments of the call.
        kwargs: Keyword arguments of the call.

    Returns:
        The arguments by the names that the function gives them. Where a method takes `*args` or `**kwargs`, the names
        are those of the methods that it overrides. Of a function without a signature, or that does not keep to it, the
        keyword arguments.
    """
    original = inspect.unwrap(function)
    while isinstance(original, functools.partial):
        original = original.func
    name = getattr(original, "__name__", "")
    owner = getattr(original, "__self__", None)
    classes = () if owner is None else type(owner).__mro__
    overridden = [vars(base)[name].__get__(owner) for base in classes if name in vars(base)]
    arguments: dict[str, Any] = {}
    for candidate in (function, *overridden):
        names, is_complete = _bound(candidate, args, kwargs)
        arguments = {**names, **arguments}
        if is_complete:
            break
    return {**arguments, **kwargs}


def copied_arguments(function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Name the arguments of a call whose function may write into the lists that it is given.

    Args:
        function: As for `arguments_by_name`.
        args: Positional arguments of the call.
        kwargs: Keyword arguments of the call.

    Returns:
        The arguments by name, with copies of lists.
    """
    named = arguments_by_name(function, args, kwargs)
    return {name: list(value) if isinstance(value, list) else value for name, value in named.items()}


def _bound(function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[dict[str, Any], bool]:
    """The arguments that a signature names, and whether it names all."""
    try:
        signature = inspect.signature(function)
        bound = signature.bind(*args, **kwargs)
    except (TypeError, ValueError):  # no signature; or an override changes the arguments before it hands them on
        return {}, False
    bound.apply_defaults()
    arguments: dict[str, Any] = {}
    is_complete = True
    for name, value in bound.arguments.items():
        kind = signature.parameters[name].kind
        if kind is inspect.Parameter.VAR_KEYWORD:
            arguments.update(value)
        elif kind is not inspect.Parameter.VAR_POSITIONAL:
            arguments[name] = value
        is_complete = is_complete and kind not in (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
    return arguments, is_complete
