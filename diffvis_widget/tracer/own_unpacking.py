"""Unpacks latents by the pipeline's own method, for models whose packing is not known here."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from .fault_guard import CannotRecordError


def find_unpacking(latents: Tensor, arguments: Mapping[str, Any], pipe: Any) -> Callable[[Tensor], Tensor]:
    """Find how a pipeline unpacks its latents before it decodes them.

    Args:
        latents: (n, positions, channels), from `prepare_latents`.
        arguments: Arguments of that call, with "height" and "width" in pixels.
        pipe: The pipeline.

    Returns:
        Packed latents -> (n, C, h, w).

    Raises:
        CannotRecordError: It does not show how.
    """
    unpack: Any = getattr(pipe, "_unpack_latents", None)
    unknown = CannotRecordError(
        f"{type(pipe).__name__} keeps its latents as a sequence of shape {tuple(latents.shape)}, and how they make an "
        "image is not known; register a family with `packing` to trace it"
    )
    if not callable(unpack):
        raise unknown
    values = {name: arguments.get(name) for name in ("height", "width")}
    values |= {name: getattr(pipe, name, None) for name in ("vae_scale_factor", "patch_size")}
    names = list(inspect.signature(unpack).parameters)[1:]
    named = {name: values[name] for name in names if values.get(name) is not None}

    def unpacked(packed: Tensor) -> Tensor:
        result: Any = unpack(packed, **named)
        return result[:, :, 0] if result.ndim == 5 and result.shape[2] == 1 else result

    try:
        image = unpacked(latents)
    except (TypeError, ValueError, RuntimeError) as error:
        raise unknown from error
    if image.ndim != 4 or image.numel() != latents.numel():
        raise unknown
    return unpacked
