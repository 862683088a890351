"""Encodes arrays as images, at the sizes that a page needs."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from diffvis_widget.traces.types import Images

LARGEST = 512  # longest side in messages; the final image is sent in full
LATENTS_LARGEST = 192  # noise costs many bytes and shows nothing more when it is larger
SMALL = 128  # up to this size every pixel is visible, so every pixel is kept


def webp(image: Images, largest: int = LARGEST, quality: int = 85) -> bytes:
    """Encodes an image as WebP; without loss and in full up to `SMALL` pixels.

    Args:
        image: uint8 (H, W, 3).
        largest: pixels of the longest side of a larger image.
        quality: 0 to 100, of a larger image.

    Returns:
        The WebP file.
    """
    if max(image.shape[:2]) <= SMALL:
        return _encode(Image.fromarray(image), "WEBP", lossless=True, method=2)
    return _encode(shrink(Image.fromarray(image), largest), "WEBP", quality=quality, method=2)


def grey(values: NDArray[np.floating[Any]], lo: float, hi: float) -> bytes:
    """Encodes a map as a grey WebP without loss.

    Args:
        values: (h, w).
        lo: the value that becomes black.
        hi: the value that becomes white.

    Returns:
        The WebP file.
    """
    scaled = np.clip((values.astype(np.float64) - lo) / max(hi - lo, 1e-12), 0, 1) * 255
    return _encode(Image.fromarray(np.rint(scaled).astype(np.uint8)).convert("RGB"), "WEBP", lossless=True, method=2)


def png(image: Images) -> bytes:
    """Encodes an image as PNG.

    Args:
        image: uint8 (H, W, 3).

    Returns:
        The PNG file.
    """
    return _encode(Image.fromarray(image), "PNG")


def read(data: bytes) -> Image.Image:
    """Decodes an image.

    Args:
        data: an image file.

    Returns:
        The image, RGB.
    """
    return Image.open(io.BytesIO(data)).convert("RGB")


def shrunk(data: bytes, largest: int, quality: int) -> bytes:
    """Encodes an image file again, smaller.

    Args:
        data: an image file.
        largest: pixels of the longest side.
        quality: 0 to 100.

    Returns:
        The WebP file.
    """
    return _encode(shrink(read(data), largest), "WEBP", quality=quality, method=4)


def shrink(image: Image.Image, largest: int) -> Image.Image:
    """Scales an image down.

    Args:
        image: the image.
        largest: pixels of the longest side.

    Returns:
        The image, or the same one if it is small enough.
    """
    scale = largest / max(image.size)
    if scale >= 1:
        return image
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    return image.resize(size, Image.Resampling.BOX)


def _encode(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()
