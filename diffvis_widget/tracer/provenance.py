"""The metadata of a trace: model, scheduler, versions, date, as plain JSON values."""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import json
import math
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import torch
from torch import Tensor, nn

from diffvis_widget._compat.torch_compile import uncompiled
from diffvis_widget.call_defaults import is_modular
from diffvis_widget.tracer.families import Family, find_family

from .modular_calls import stated_guidance
from .video_calls import frames_per_latent

_PACKAGES = {
    "diffvis_widget": "diffvis-widget",
    "diffusers": "diffusers",
    "torch": "torch",
    "transformers": "transformers",
}


def describe(pipe: Any, denoiser: nn.Module, family: Family, caller: Any) -> dict[str, Any]:
    """Collect what is known about a run before its first step.

    Args:
        pipe: The pipeline.
        denoiser: Its denoiser.
        family: The family of the denoiser.
        caller: The pipeline if its `__call__` runs, or None: its settings are then those of an earlier call.

    Returns:
        Entries of `Trace.meta`; with ``own_loop`` where no `__call__` of a pipeline makes the run.
    """
    scheduler, guider = pipe.scheduler, getattr(pipe, "guider", None) if is_modular(pipe) else None
    return {
        "pipeline": type(pipe).__name__,
        "scheduler": type(scheduler).__name__,
        "scheduler_config": plain_json(dict(getattr(scheduler, "config", {}))),
        "fingerprint": fingerprint(denoiser),
        "guidance_scale": stated_guidance(caller)[0],
        **(
            {}
            if guider is None
            else {"guider": type(guider).__name__, "guider_config": plain_json(dict(guider.config))}
        ),
        "versions": dict(versions()),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        **({"own_loop": True} if caller is None else {}),
        **({"frames_per_latent": frames_per_latent(pipe, family)} if family.traces_videos else {}),
    }


@functools.cache
def versions() -> dict[str, str]:
    """Look up the installed versions of what a run depends on.

    Returns:
        Versions by package; shared by all callers, do not change it.
    """
    installed: dict[str, str] = {}
    for name, package in _PACKAGES.items():
        try:
            installed[name] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:  # run from a source tree that is not installed
            installed[name] = "unknown"
    return installed


def fingerprint(model: Any) -> str:
    """Compute a fingerprint of a denoiser from its class, its config, and names, shapes and values of its parameters.

    Values are sampled: 64 numbers of each of 16 parameters, enough to tell a fine-tuned model from its parent. The same
    model has the same fingerprint wherever it was loaded from, and in float32 and float16.

    Args:
        model: A pipeline, or its denoiser.

    Returns:
        16 hexadecimal digits, as in `Trace.meta["fingerprint"]`.
    """
    module = uncompiled(model if isinstance(model, nn.Module) else find_family(model)[1])
    entries = dict(getattr(module, "config", {})).items()
    config = plain_json({key: value for key, value in entries if not key.startswith("_")})
    digest = hashlib.sha256(json.dumps([type(module).__name__, config], sort_keys=True).encode())
    parameters = list(module.named_parameters())
    for name, value in parameters:
        digest.update(f"{name} {tuple(value.shape)}".encode())
    sampled = [value for _, value in parameters if value.numel() > 1 and value.device.type != "meta"]
    for value in sampled[:: max(1, len(sampled) // 16)]:
        digest.update(_sample(value))
    return digest.hexdigest()[:16]


def _sample(value: Tensor) -> bytes:
    """64 numbers of a parameter; of quantized weights, which may not give any, what they are stored as."""
    try:
        return value.detach().flatten()[:64].to("cpu", torch.float16).numpy().tobytes()
    except (AttributeError, NotImplementedError, RuntimeError, TypeError, ValueError):
        return f"{type(value).__name__} {value.dtype}".encode()


def plain_json(value: Any) -> Any:
    """Convert a value to plain JSON values.

    Args:
        value: Any value; what JSON does not have becomes its text, numbers that are not finite too.

    Returns:
        None, bool, int, float, str, or dictionaries and lists of these.
    """
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, Mapping):
        return {str(key): plain_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain_json(item) for item in value]
    if hasattr(value, "tolist"):
        return plain_json(value.tolist())
    return str(value)
