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


def check_image(name: str, value: Any) -> Images:
    """Checks an image.

    Args:
        name: name of the argument, for the error.
        value: the value.

    Returns:
        The image, uint8 (H, W, 3).

    Raises:
        TypeError: it is no array.
        ValueError: it has another dtype or shape.
    """
    image = _array(value)
    if image is None:
        raise TypeError(f"{name} must be an image, uint8 (H, W, 3), not {shorten(value)}")
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
        raise ValueError(f"{name} must be an image, uint8 (H, W, 3), not {describe(image)}")
    return image


def check_latents(name: str, value: Any, axes: int, channels: int | None = None) -> NDArray[Any]:
    """Checks latents.

    Args:
        name: name of the argument, for the error.
        value: the value.
        axes: 3 for (C, h, w), 4 for (n, C, h, w).
        channels: C; None for any.

    Returns:
        The latents.

    Raises:
        TypeError: it is no array of numbers.
        ValueError: it has another shape, or is empty.
    """
    form = "(C, h, w)" if axes == 3 else "(n, C, h, w)"
    expected = form if channels is None else form.replace("C", str(channels))
    latents = _array(value)
    if latents is None or latents.dtype.kind not in "fiu":
        raise TypeError(f"{name} must be an array of numbers {expected}, not {describe(value)}")
    if latents.ndim != axes or not latents.size or channels not in (None, latents.shape[axes - 3]):
        raise ValueError(f"{name} must be latents {expected}, not {describe(latents)}")
    return latents
