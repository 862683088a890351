"""The default number of steps and guidance scale of a pipeline, read from the signature of its call."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from diffvis_widget.shipped import has_scenes_mark


@dataclass(frozen=True)
class CallDefaults:
    """What a pipeline does where its caller says nothing.

    Attributes:
        steps: number of denoising steps; None where the pipeline decides it during the call.
        guidance_scale: None where the pipeline takes none, or uses none by default.
    """

    steps: int | None = None
    guidance_scale: float | None = None


# The scenes model was trained and measured with these. Its class has the defaults of another model.
SCENES = CallDefaults(steps=30, guidance_scale=7.5)


def is_modular(pipe: Any) -> bool:
    """Whether a pipeline is made of blocks.

    Args:
        pipe: a pipeline.

    Returns:
        True for diffusers' `ModularPipeline` and its subclasses.
    """
    return any(base.__name__ == "ModularPipeline" for base in type(pipe).__mro__)


def _modular_parameters(pipe: Any) -> dict[str, inspect.Parameter]:
    """The inputs of the blocks, and the guidance scale, which modular pipelines keep in a guider."""
    defaults: dict[str, Any] = {name: value for name, value in pipe.default_call_parameters.items() if name}
    guider: Any = getattr(pipe, "guider", None)
    if hasattr(guider, "guidance_scale"):
        is_enabled = guider.config.get("enabled", True)
        defaults.setdefault("guidance_scale", guider.guidance_scale if is_enabled else None)
    kind = inspect.Parameter.KEYWORD_ONLY
    return {name: inspect.Parameter(name, kind, default=value) for name, value in defaults.items()}


def call_parameters(pipe: Any) -> Mapping[str, inspect.Parameter]:
    """Collect the parameters of a pipeline's call.

    A subclass that passes ``**kwargs`` on takes what its base classes take, with their defaults.

    Args:
        pipe: a pipeline.

    Returns:
        The parameters by name, without ``self``, ``*args`` and ``**kwargs``; of a modular pipeline, the inputs of its
        blocks.
    """
    if is_modular(pipe):
        return _modular_parameters(pipe)
    parameters: dict[str, inspect.Parameter] = {}
    for base in type(pipe).__mro__:
        if "__call__" not in vars(base):
            continue
        signature = list(inspect.signature(vars(base)["__call__"]).parameters.values())
        for parameter in signature[1:]:
            if parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
                parameters.setdefault(parameter.name, parameter)
        if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in signature):
            break
    return parameters


def call_defaults(pipe: Any) -> CallDefaults:
    """Read the defaults of a pipeline's call.

    Args:
        pipe: a pipeline.

    Returns:
        Its own defaults; 30 steps and a guidance scale of 7.5 for the scenes model.
    """
    if has_scenes_mark(pipe):
        return SCENES
    parameters = call_parameters(pipe)
    steps, guidance = (
        parameters[name].default if name in parameters else None for name in ("num_inference_steps", "guidance_scale")
    )
    return CallDefaults(
        steps=steps if isinstance(steps, int) else None,
        guidance_scale=float(guidance) if isinstance(guidance, int | float) else None,
    )
