"""The arguments of a pipeline's call as metadata of its trace: what a repeated run needs beside prompt and seed."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import Tensor

from diffvis_widget.call_defaults import call_parameters

from .provenance import plain_json

# What a trace holds under other names, and what does not change the latents.
_ELSEWHERE = frozenset(
    {
        "prompt",
        "negative_prompt",
        "generator",
        "num_inference_steps",
        "guidance_scale",
        "num_images_per_prompt",
        "output_type",
        "return_dict",
        "callback",
        "callback_steps",
        "callback_on_step_end",
        "callback_on_step_end_tensor_inputs",
        "args",
        "kwargs",
    }
)
_SCHEDULES = ("timesteps", "sigmas")
_MAX_CHARACTERS = 20_000  # of an argument as JSON


def call_settings(pipe: Any, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Describe the arguments of a pipeline's call.

    Args:
        pipe: The pipeline.
        arguments: All arguments of its `__call__` by name, with defaults; empty for a loop outside of it.

    Returns:
        Entries of `Trace.meta`: ``num_inference_steps``, the number of steps requested, if it is known; ``arguments``,
        those that differ from their defaults, as plain JSON values; ``arguments_not_recorded``, the types of those that
        JSON cannot hold (tensors, images, functions). Empty entries are left out.
    """
    parameters = call_parameters(pipe)
    prompt = arguments.get("prompt")
    is_batch = isinstance(prompt, list | tuple) and len(prompt) > 1
    recorded: dict[str, Any] = {}
    not_recorded: dict[str, str] = {}
    for name, value in arguments.items():
        if name in _ELSEWHERE or value is pipe or value is None:
            continue
        if name in _SCHEDULES:
            value = _numbers(value)
        has_text_of_each_image = is_batch and isinstance(value, list | tuple) and bool(value) and _is_text(value[0])
        if has_text_of_each_image or not _is_plain(value) or len(json.dumps(plain_json(value))) > _MAX_CHARACTERS:
            not_recorded[name] = type(value).__name__
        elif name not in parameters or value != parameters[name].default:
            recorded[name] = plain_json(value)
    entries = {
        "num_inference_steps": _requested_steps(arguments),
        "arguments": recorded,
        "arguments_not_recorded": not_recorded,
    }
    return {name: entry for name, entry in entries.items() if entry}


def _requested_steps(arguments: Mapping[str, Any]) -> int | None:
    for name in _SCHEDULES:
        values = _numbers(arguments.get(name))
        if isinstance(values, list):
            return len(values)
    steps = arguments.get("num_inference_steps")
    return int(steps) if isinstance(steps, int | np.integer) and not isinstance(steps, bool) else None


def _numbers(values: Any) -> Any:
    """A short array of numbers as a list; anything else stays."""
    if isinstance(values, tuple):
        return list(values)
    is_array = isinstance(values, np.ndarray) or (isinstance(values, Tensor) and values.device.type == "cpu")
    return values.tolist() if is_array and values.ndim == 1 else values


def _is_text(value: object) -> bool:
    return isinstance(value, str | list | tuple)


def _is_plain(value: Any) -> bool:
    """Whether JSON holds a value as it is (a tuple as a list, a number of numpy as a number)."""
    if value is None or isinstance(value, bool | int | str | np.integer | np.bool_):
        return True
    if isinstance(value, float | np.floating):
        return math.isfinite(value)
    if isinstance(value, Mapping):
        return all(isinstance(key, str) and _is_plain(item) for key, item in value.items())
    return isinstance(value, list | tuple) and all(_is_plain(item) for item in value)
