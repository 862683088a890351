"""Pictures of a trace file: encoded WebP, not decoded before its first bytes have stated the size that it must have."""

from __future__ import annotations

import io
import os
import struct
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from diffvis_widget.traces.resize import Size

from .safetensors_reader import TraceFileError

Images = NDArray[np.uint8]

EXACT_UP_TO = 128  # pixels a side: so small that every pixel of a noisy picture is seen, and kept
MAX_PIXELS = 4096 * 4096  # of one picture; decoding takes 12 bytes for each
MAX_TOTAL = 2 * 2**30  # bytes that all pictures of a kind may unpack to


class Pictures(Sequence[Images]):
    """Encoded pictures of one size, each decoded when it is asked for, uint8 (H, W, 3)."""

    def __init__(self, encoded: Sequence[bytes | memoryview], size: Size) -> None:
        self.encoded = encoded
        self.size = size

    def __len__(self) -> int:
        return len(self.encoded)

    def __getitem__(self, index: int) -> Images:  # pyright: ignore[reportIncompatibleMethodOverride]
        return decode(bytes(self.encoded[index]), self.size)


def encode_all(images: Images, exact: bool) -> list[bytes]:
    """Pictures uint8 (n, H, W, 3) as WebP: lossless if ``exact`` or small, else at quality 90."""
    lossless = exact or max(images.shape[1:3]) <= EXACT_UP_TO

    def encode(image: Images) -> bytes:
        buffer = io.BytesIO()
        # quality is the effort for lossless pictures: more costs three times the time for two per cent
        Image.fromarray(image).save(buffer, "WEBP", lossless=lossless, quality=20 if lossless else 90, method=1)
        return buffer.getvalue()

    with ThreadPoolExecutor(os.cpu_count()) as threads:  # the encoder lets go of the interpreter's lock
        return list(threads.map(encode, images))


def decode(data: bytes, size: Size) -> Images:
    """A still WebP without extras, uint8 (H, W, 3). Raises TraceFileError unless it is one, of that size."""
    found = stated_size(data)
    if found is None or found != size or found[0] * found[1] > MAX_PIXELS:
        raise TraceFileError(f"a picture in it is {found}, not {size}, its height and width")
    try:
        with Image.open(io.BytesIO(data), formats=("WEBP",)) as image:
            return np.array(image.convert("RGB"))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise TraceFileError(f"a picture in it is damaged: {error}") from None


def decode_png(data: bytes) -> Images:
    """A PNG, uint8 (H, W, 3). Raises TraceFileError unless it is one, of at most MAX_PIXELS pixels."""
    try:
        with Image.open(io.BytesIO(data), formats=("PNG",)) as image:
            if image.width * image.height > MAX_PIXELS:
                raise TraceFileError(f"its picture is {image.width} x {image.height}, more than a trace may have")
            return np.array(image.convert("RGB"))
    except TraceFileError:
        raise
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise TraceFileError(f"its picture is damaged: {error}") from None


def stated_size(data: bytes) -> Size | None:
    """(height, width) that the first bytes state, read here because the decoder makes room before it can be asked."""
    if len(data) < 30 or data[:4] != b"RIFF" or data[8:12] != b"WEBP":
        return None
    if data[12:16] == b"VP8 " and data[23:26] == b"\x9d\x01\x2a":
        width, height = struct.unpack_from("<HH", data, 26)
        return height & 0x3FFF, width & 0x3FFF
    if data[12:16] == b"VP8L" and data[20] == 0x2F:
        (bits,) = struct.unpack_from("<I", data, 21)
        return (bits >> 14 & 0x3FFF) + 1, (bits & 0x3FFF) + 1
    return None  # with animation, profiles or other extras: nothing that a trace writes
