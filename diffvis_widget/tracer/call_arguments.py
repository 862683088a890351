"""Checks the arguments of a pipeline's call before the run, against the signature of the call."""

from __future__ import annotations

import inspect
import math
import numbers
from collections.abc import Mapping
from typing import Any

from diffvis_widget.arguments import count, did_you_mean, shorten
from diffvis_widget.call_defaults import call_parameters

from .video_calls import check_frames

_WHOLE = {"num_inference_steps": 100_000, "height": 65_536, "width": 65_536, "num_images_per_prompt": 100_000}


def check_call_arguments(pipe: Any, arguments: Mapping[str, Any], modifies: bool = False) -> None:
    """Refuse arguments that the call of a pipeline does not take, or that no call can mean.

    A pipeline of diffusers takes `**kwargs` for retired arguments only and ignores all others, so only the names of its
    signature are accepted. Any other pipeline with `**kwargs` may take names that its signature does not list: one that
    resembles a name of the signature is refused as misspelt, others are passed on.

    Args:
        pipe: The pipeline.
        arguments: The arguments by name.
        modifies: Whether the call is to be changed, which is not possible where it makes a video.

    Raises:
        TypeError: The pipeline takes no such argument, or a number has another type. Says which argument was meant.
        ValueError: A number is NaN or infinite, a size or number of steps is out of range, or the call makes a
            video that cannot be traced.
    """
    parameters = call_parameters(pipe)
    name_of_pipe = type(pipe).__name__
    call = inspect.signature(type(pipe).__call__).parameters.values()
    is_open = any(parameter.kind is parameter.VAR_KEYWORD for parameter in call)
    is_open = is_open and not type(pipe).__module__.startswith("diffusers.")
    for name, value in arguments.items():
        if name not in parameters:
            hint = did_you_mean(name, parameters)
            if hint or not is_open:
                names = f"; it takes {', '.join(parameters)}"
                raise TypeError(f"{name_of_pipe} takes no {name}={hint or names}")
        _check_number(name, value, parameters[name].default if name in parameters else None)
    defaults = {name: parameter.default for name, parameter in parameters.items()}
    check_frames(pipe, None, {**defaults, **arguments}, modifies)


def _check_number(name: str, value: Any, default: Any) -> None:
    if name in _WHOLE and value is not None:
        count(name, value, 1, _WHOLE[name])
    elif isinstance(default, float) and isinstance(value, bool | str | bytes | dict):
        raise TypeError(f"{name} must be a number, not {shorten(value)}")
    if isinstance(value, numbers.Real) and not math.isfinite(value):
        raise ValueError(f"{name} must be a finite number, not {value}")
