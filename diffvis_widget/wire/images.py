"""Arrays to picture files and back, at the sizes that a page needs."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

LARGEST = 512  # longest side on the wire; the final picture goes in full
LATENTS_LARGEST = 192  # noise costs many bytes and shows nothing more when it is larger
SMALL = 128  # up to this size every pixel is seen, so every pixel is kept


def webp(image: NDArray[np.uint8], largest: int = LARGEST, quality: int = 85) -> bytes:
    """uint8 (H, W, 3) as WebP, scaled down to ``largest`` on its longest side; a small picture as it is."""
    if max(image.shape[:2]) <= SMALL:
        return _save(Image.fromarray(image), "WEBP", lossless=True, method=2)
    return _save(shrink(Image.fromarray(image), largest), "WEBP", quality=quality, method=2)


def grey(values: NDArray[np.floating[Any]], lo: float, hi: float) -> bytes:
    """A map (h, w) as a lossless grey WebP: 0 is ``lo``, 255 is ``hi``."""
    scaled = np.clip((values.astype(np.float64) - lo) / max(hi - lo, 1e-12), 0, 1) * 255
    return _save(Image.fromarray(np.rint(scaled).astype(np.uint8)).convert("RGB"), "WEBP", lossless=True, method=2)


def png(image: NDArray[np.uint8]) -> bytes:
    """uint8 (H, W, 3) as PNG, every pixel as it is."""
    return _save(Image.fromarray(image), "PNG")


def read(data: bytes) -> Image.Image:
    """The picture in ``data``."""
    return Image.open(io.BytesIO(data)).convert("RGB")


def shrunk(data: bytes, largest: int, quality: int) -> bytes:
    """A picture file written again, smaller."""
    return _save(shrink(read(data), largest), "WEBP", quality=quality, method=4)


def shrink(image: Image.Image, largest: int) -> Image.Image:
    scale = largest / max(image.size)
    if scale >= 1:
        return image
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    return image.resize(size, Image.Resampling.BOX)


def _save(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()
