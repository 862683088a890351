"""The images of a trace file: WebP, decoded only after their first bytes stated the expected size."""

from __future__ import annotations

import io
import os
import struct
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from PIL import Image

from diffvis_widget.traces.errors import TraceFileError
from diffvis_widget.traces.types import Images, Size

from .file_arrays import BytesInFile

EXACT_UP_TO = 128  # pixels a side: up to this size every pixel of a noisy image is visible, and is kept
MAX_PIXELS = 4096 * 4096  # of one image; decoding takes 12 bytes for each
MAX_TOTAL = 2 * 2**30  # bytes of all decoded images of a kind


class EncodedImages(Sequence[Images]):
    """Encoded images of one size, each decoded on access to uint8 (H, W, 3).

    Args:
        encoded: the bytes of each image, or what ``bytes(...)`` reads them from.
        size: (H, W) of all.
        frames: for videos, how many images make one: an item is then (frames, H, W, 3).
    """

    def __init__(
        self, encoded: Sequence[bytes | memoryview | BytesInFile], size: Size, frames: int | None = None
    ) -> None:
        self.encoded = encoded
        self.size = size
        self.frames = frames

    def __getstate__(self) -> dict[str, Any]:
        # views of a file's content can be neither copied nor pickled
        return {**vars(self), "encoded": [bytes(image) for image in self.encoded]}

    def __len__(self) -> int:
        return len(self.encoded) // (self.frames or 1)

    def __getitem__(self, index: int) -> Images:  # pyright: ignore[reportIncompatibleMethodOverride]
        if self.frames is None:
            return decode(bytes(self.encoded[index]), self.size)
        start = range(len(self))[index] * self.frames
        return np.stack([decode(bytes(image), self.size) for image in self.encoded[start : start + self.frames]])

    @property
    def nbytes(self) -> int:
        """Bytes of the encoded images."""
        return sum(len(image) for image in self.encoded)


def encode_all(images: Images, exact: bool) -> list[bytes]:
    """Encodes images as WebP.

    Args:
        images: uint8 (n, H, W, 3).
        exact: whether to encode without loss; small images always are. Others have quality 90.

    Returns:
        The bytes of each image.
    """
    lossless = exact or max(images.shape[1:3]) <= EXACT_UP_TO

    def encode(image: Images) -> bytes:
        buffer = io.BytesIO()
        # for lossless images, quality is effort: more takes three times as long and saves two per cent
        Image.fromarray(image).save(buffer, "WEBP", lossless=lossless, quality=20 if lossless else 90, method=1)
        return buffer.getvalue()

    with ThreadPoolExecutor(os.cpu_count()) as threads:  # the encoder releases the interpreter lock
        return list(threads.map(encode, images))


def decode(data: bytes, size: Size) -> Images:
    """Decodes a still WebP image without extras.

    Args:
        data: its bytes.
        size: the (H, W) that it must have.

    Returns:
        uint8 (H, W, 3).

    Raises:
        TraceFileError: it is something else, has another size or more than `MAX_PIXELS` pixels.
    """
    stated = stated_size(data)
    if stated is None or stated != size or stated[0] * stated[1] > MAX_PIXELS:
        raise TraceFileError(f"an image in it is {stated}, not {size}, its height and width")
    try:
        with Image.open(io.BytesIO(data), formats=("WEBP",)) as image:
            return np.array(image.convert("RGB"))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise TraceFileError(f"an image in it is damaged: {error}") from None


def decode_png(data: bytes) -> Images:
    """Decodes a PNG image.

    Args:
        data: its bytes.

    Returns:
        uint8 (H, W, 3).

    Raises:
        TraceFileError: it is something else, or has more than `MAX_PIXELS` pixels.
    """
    try:
        with Image.open(io.BytesIO(data), formats=("PNG",)) as image:
            if image.width * image.height > MAX_PIXELS:
                raise TraceFileError(f"its image is {image.width} x {image.height}, more than a trace may have")
            return np.array(image.convert("RGB"))
    except TraceFileError:
        raise
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise TraceFileError(f"its image is damaged: {error}") from None


def stated_size(data: bytes) -> Size | None:
    """Reads the size that the first bytes of a WebP image state: the decoder allocates before it reports one.

    Args:
        data: the bytes of the image.

    Returns:
        (H, W); None for other data, and for WebP with animation, profiles or other extras, which a trace never has.
    """
    if len(data) < 30 or data[:4] != b"RIFF" or data[8:12] != b"WEBP":
        return None
    if data[12:16] == b"VP8 " and data[23:26] == b"\x9d\x01\x2a":
        width, height = struct.unpack_from("<HH", data, 26)
        return height & 0x3FFF, width & 0x3FFF
    if data[12:16] == b"VP8L" and data[20] == 0x2F:
        (bits,) = struct.unpack_from("<I", data, 21)
        return (bits >> 14 & 0x3FFF) + 1, (bits & 0x3FFF) + 1
    return None
