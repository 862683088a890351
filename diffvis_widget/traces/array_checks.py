"""Checks of arrays that are passed to a trace."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from diffvis_widget.arguments import shorten

from .types import Images


def _array(value: object) -> NDArray[Any] | None:
    return cast("NDArray[Any]", value) if isinstance(value, np.ndarray) else None


def describe(value: object) -> str:
    """Describes what was passed for an array.

    Args:
        value: any value.

    Returns:
        Dtype and shape of an array, the repr of anything else.
    """
    array = _array(value)
    return shorten(value) if array is None else f"{array.dtype} {array.shape}"


def check_image(name: str, value: Any, is_video: bool = False) -> Images:
    """Checks an image, or the frames of a video.

    Args:
        name: name of the argument, for the error.
        value: the value.
        is_video: whether it is a video.

    Returns:
        The image, uint8 (H, W, 3); of a video (frames, H, W, 3).

    Raises:
        TypeError: it is no array.
        ValueError: it has another dtype or shape.
    """
    image = _array(value)
    expected = "a video, uint8 (frames, H, W, 3)" if is_video else "an image, uint8 (H, W, 3)"
    if image is None:
        raise TypeError(f"{name} must be {expected}, not {shorten(value)}")
    if image.dtype != np.uint8 or image.ndim != 3 + is_video or image.shape[-1] != 3 or not image.size:
        raise ValueError(f"{name} must be {expected}, not {describe(image)}")
    return image


def check_latents(
    name: str, value: Any, axes: int, channels: int | None = None, is_video: bool = False
) -> NDArray[Any]:
    """Checks latents.

    Args:
        name: name of the argument, for the error.
        value: the value.
        axes: 3 for (C, h, w), 4 for (n, C, h, w).
        channels: C; None for any.
        is_video: whether an axis of frames stands before h.

    Returns:
        The latents.

    Raises:
        TypeError: it is no array of numbers.
        ValueError: it has another shape, or is empty.
    """
    form = "(C, h, w)" if axes == 3 else "(n, C, h, w)"
    form = form.replace("h", "F, h") if is_video else form
    expected = form if channels is None else form.replace("C", str(channels))
    latents = _array(value)
    if latents is None or latents.dtype.kind not in "fiu":
        raise TypeError(f"{name} must be an array of numbers {expected}, not {describe(value)}")
    if latents.ndim != axes + is_video or not latents.size or channels not in (None, latents.shape[axes - 3]):
        raise ValueError(f"{name} must be latents {expected}, not {describe(latents)}")
    return latents
