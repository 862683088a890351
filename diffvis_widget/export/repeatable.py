"""Whether the metadata of a run suffices to make it again, and with which further arguments."""

from __future__ import annotations

import json
import keyword
import math
from collections.abc import Mapping
from typing import Any, cast

from diffvis_widget.shipped import WEIGHTS, is_scenes_model

from .literals import comment

_WRITTEN = ("pipe", "prompt", "seed", "num_inference_steps", "guidance_scale", "negative_prompt", "schedule",
            "schedule_strength", "keep", "on_step", "compiled", "output", "interventions")  # fmt: skip
SCHEDULE_ARGUMENTS = ("num_inference_steps", "timesteps", "sigmas")
"""Arguments of a pipeline's call that another schedule replaces."""


USE_THE_FILE = "give file=, where it is saved"


def check_repeatable(meta: Mapping[str, Any], remedy: str = USE_THE_FILE) -> None:
    """Refuse a run that cannot be made again from its metadata.

    Args:
        meta: `Trace.meta`, maybe of a file of unknown origin.
        remedy: What to do instead, for the error.

    Raises:
        ValueError: A loop of the user's own made the run, the seed is not known, the call had arguments that a trace
            does not hold, or the scenes model had another scheduler.
    """
    if meta.get("own_loop") is True:
        raise ValueError(
            f"a loop of its own made this run, not a call of the pipeline, so no call repeats it: {remedy}"
        )
    if not is_whole(meta.get("seed")):
        raise ValueError(f"the seed of this run is not known, so it cannot be repeated: {remedy}")
    generator = meta.get("generator")
    if isinstance(generator, dict):
        source = cast("dict[Any, Any]", generator)
        if source.get("images", 1) != 1 or source.get("device", "cpu") != "cpu":
            raise ValueError(
                "this run cannot be repeated from its seed, for its generator was shared by several images or was not "
                f"on the CPU: {remedy}"
            )
    missing = meta.get("arguments_not_recorded")
    if missing:
        names = ", ".join(str(name) for name in cast("Mapping[Any, Any]", missing)) if isinstance(missing, dict) else ""
        raise ValueError(
            f"this run cannot be repeated, for a trace does not hold arguments of its call ({comment(names)}): {remedy}"
        )
    if is_scenes_model(meta.get("fingerprint")) and (change := _scheduler_change(meta)):
        raise ValueError(
            f"this run cannot be repeated, for dv.load() has another scheduler ({comment(change)}): {remedy}"
        )


def call_arguments(meta: Mapping[str, Any]) -> dict[str, Any]:
    """Read the further arguments of the pipeline's call.

    Args:
        meta: `Trace.meta`, maybe of a file of unknown origin.

    Returns:
        Values by name, which is a Python identifier and no parameter of `dv.trace` itself.

    Raises:
        ValueError: The metadata holds something else.
    """
    recorded = meta.get("arguments") or {}
    if not isinstance(recorded, dict):
        raise ValueError(f"this run cannot be repeated, for its arguments are {comment(recorded)}: give file=")
    arguments: dict[str, Any] = {}
    for name, value in cast("dict[Any, Any]", recorded).items():
        if not _is_name(name) or name in _WRITTEN:
            raise ValueError(f"this run cannot be repeated, for it has an argument {comment(name)}: give file=")
        if name in SCHEDULE_ARGUMENTS:
            if meta.get("schedule", "uniform") == "uniform":
                # the number of steps goes with the list, which pipelines take in its place
                arguments |= {"num_inference_steps": None, name: value}
        else:
            arguments[name] = _with_tuple(value)
    return arguments


def is_whole(value: object) -> bool:
    """Whether a value of metadata is an integer.

    Args:
        value: The value.

    Returns:
        True for an int that is no bool.
    """
    return isinstance(value, int) and not isinstance(value, bool)


def _is_name(name: object) -> bool:
    return isinstance(name, str) and name.isascii() and name.isidentifier() and not keyword.iskeyword(name)


def _with_tuple(value: Any) -> Any:
    """JSON has no tuples; pipelines add up sizes and positions, which are tuples of numbers."""
    if isinstance(value, list) and all(isinstance(item, int | float) for item in cast("list[Any]", value)):
        return tuple(cast("list[Any]", value))
    return value


def _scheduler_change(meta: Mapping[str, Any]) -> str:
    """How the scheduler of a run differs from that of the scenes model; "" if it does not, or is not recorded."""
    path = WEIGHTS / "pipeline" / "scheduler" / "scheduler_config.json"
    if not path.exists():
        return ""
    expected: dict[str, Any] = json.loads(path.read_text())
    scheduler, config = meta.get("scheduler"), meta.get("scheduler_config")
    if isinstance(scheduler, str) and scheduler != expected["_class_name"]:
        return scheduler
    if not isinstance(config, dict):
        return ""
    values = cast("dict[Any, Any]", config)
    settings = {name: value for name, value in expected.items() if not name.startswith("_")}
    names = [name for name, value in settings.items() if values.get(name) != _as_recorded(value)]
    return ", ".join(names)


def _as_recorded(value: Any) -> Any:
    """Metadata holds a number that is not finite as text."""
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
