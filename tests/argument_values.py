"""Wrong values for arguments, chosen by the type hints of the public functions."""

from __future__ import annotations

import collections.abc
import inspect
import math
import sys
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal, get_args, get_origin

import numpy as np
from diffusers import DiffusionPipeline

import diffvis_widget as dv
from diffvis_widget.export import view_options
from diffvis_widget.scenes import Scene
from diffvis_widget.wire.recorded_run import Layers

HUGE = 10**30
WRONG: dict[str, Any] = {
    "an object": object(),
    "a text": "nonsense 5",
    "an integer": 5,
    "true": True,
    "none": None,
    "bytes": b"bytes",
    "a list": [object()],
    "a dict": {"nonsense": object()},
    "a set": {1.5},
    "an array": np.full((2, 0), np.nan),
    "a class": Scene,
    "nan": math.nan,
    "infinity": math.inf,
    "huge": HUGE,
    "negative": -HUGE,
    "an empty list": [],
    "an empty text": "",
}
# what no argument takes as a number, although its hint may
NONSENSE = {"nan", "infinity", "huge", "negative"}


def parameters(function: Callable[..., Any]) -> dict[str, Any]:
    """The type hint of each parameter that can be passed by name; those of a TypedDict after ** are expanded."""
    hints: dict[str, Any] = {}
    call = function.__init__ if inspect.isclass(function) else function
    module = sys.modules[inspect.unwrap(getattr(call, "__func__", call)).__module__]
    for name, parameter in inspect.signature(function).parameters.items():
        hint = _evaluated(parameter.annotation, module)
        if parameter.kind is parameter.VAR_KEYWORD:
            options = get_args(hint)[0] if get_args(hint) else None
            if options is not None:
                hints |= {key: _evaluated(value, view_options) for key, value in _fields(options)}
        elif parameter.kind is not parameter.VAR_POSITIONAL:
            hints[name] = DiffusionPipeline if name == "pipe" and hint is Any else hint
    return hints


def _fields(options: Any) -> Iterator[tuple[str, Any]]:
    for name, hint in options.__annotations__.items():
        yield name, getattr(hint, "__forward_arg__", hint)


def _evaluated(hint: Any, module: types.ModuleType) -> Any:
    if not isinstance(hint, str):
        return hint
    names = {**vars(typing), **vars(collections.abc), "np": np, "os": __import__("os")}
    names |= {
        name: getattr(dv, name) for name in ("Trace", "Saliency", "ConceptMeter", "DecisionCurve", "Note", "Comparison")
    }
    names |= {
        "DiffusionPipeline": DiffusionPipeline,
        "Path": __import__("pathlib").Path,
        "ScoresPayload": Any,
        "Layers": Layers,
    }
    return eval(hint, {**names, **vars(module)})


def fits(hint: Any, value: Any) -> bool:
    """Whether a value is of the type of a hint, as far as it can be told without looking at its meaning."""
    origin, arguments = get_origin(hint), get_args(hint)
    if hint is Any or hint is inspect.Parameter.empty or hint is object:
        return True
    if hint is None or hint is type(None):
        return value is None
    if origin is Literal:
        return any(value is option or (isinstance(value, str) and value == option) for option in arguments)
    if origin in (typing.Union, types.UnionType):
        return any(fits(part, value) for part in arguments)
    if origin is type:
        return isinstance(value, type)
    if origin is tuple and arguments and arguments[-1] is not Ellipsis:
        return isinstance(value, tuple | list) and len(value) == len(arguments)
    if origin in (collections.abc.Sequence, list, tuple):
        inner = arguments[0] if arguments else Any
        return isinstance(value, list | tuple) and all(fits(inner, item) for item in value)
    if origin in (collections.abc.Mapping, dict):
        return isinstance(value, Mapping) and all(fits(arguments[1], item) for item in value.values())
    if origin is collections.abc.Callable or hint is collections.abc.Callable:
        return callable(value)
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    kind = origin or hint
    if not isinstance(kind, type):
        return True
    try:
        return isinstance(value, kind)
    except TypeError:  # protocols that cannot be checked
        return False
