"""The packed form of a run, and how arrays and numbers travel in messages.

A message is a JSON object (``content``) and a list of binary ``buffers``. The page receives messages one by one while
the model runs; packed together they are the ``_snapshot`` trait, the offline page and the compact trace file.
``js/src/core/packedRun.ts`` reads the same bytes; the files in ``tests/golden`` hold both sides to one format.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

MAGIC = b"DVR1"
MAX_HEADER = 64 * 1024 * 1024

Json = dict[str, Any]
RequestId = int | str
"""Id of a request: the page chooses it, and the reply carries it."""


@dataclass(frozen=True, slots=True)
class Message:
    """One message between kernel and page.

    Attributes:
        content: a JSON object without NaN and infinity.
        buffers: the binary parts, in the order that the message type defines.
    """

    content: Json
    buffers: tuple[bytes, ...] = ()

    @property
    def size(self) -> int:
        """Approximate bytes on the wire: the buffers and a guess at the JSON."""
        return sum(len(buffer) for buffer in self.buffers) + 512

    def stamped(self, seq: int) -> Message:
        """Returns the same message with its sequence number.

        Args:
            seq: the number, from 0.

        Returns:
            A new message whose content has the field ``seq``.
        """
        return Message({**self.content, "seq": seq}, self.buffers)


def pack(messages: Sequence[Message]) -> bytes:
    """Packs messages: magic, header length (uint32, little endian), JSON header, all buffers in order.

    Args:
        messages: the messages, in order.

    Returns:
        The packed bytes, which `unpack` reads.

    Raises:
        ValueError: a content holds NaN or infinity.
    """
    entries = [
        {"content": message.content, "buffers": [len(buffer) for buffer in message.buffers]} for message in messages
    ]
    text = json.dumps({"messages": entries}, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    header = text.encode("utf-8", "replace")  # UTF-8 has no lone surrogates, and a recorded prompt may
    buffers = [buffer for message in messages for buffer in message.buffers]
    return b"".join([MAGIC, struct.pack("<I", len(header)), header, *buffers])


def unpack(data: bytes) -> list[Message]:
    """Reads packed messages.

    Args:
        data: what `pack` returned.

    Returns:
        The messages, in order.

    Raises:
        ValueError: ``data`` is not a packed run, is cut short, or has bytes that belong to no message.
    """
    if data[:4] != MAGIC or len(data) < 8:
        raise ValueError(f"not a packed run: it starts with {data[:4]!r}, not {MAGIC!r}")
    (length,) = struct.unpack_from("<I", data, 4)
    if length > min(MAX_HEADER, len(data) - 8):
        raise ValueError(f"packed run is cut short: its header claims {length} bytes, {len(data) - 8} are there")
    try:
        header: object = json.loads(data[8 : 8 + length].decode("utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"packed run has no readable header: {error}") from None
    offset = 8 + length
    messages: list[Message] = []
    for entry in _list(_dict(header, "header").get("messages"), "messages"):
        fields = _dict(entry, "message")
        content = _dict(fields.get("content"), "content")
        buffers: list[bytes] = []
        for size in _list(fields.get("buffers"), "buffers"):
            if type(size) is not int or not 0 <= size <= len(data) - offset:
                raise ValueError(
                    f"packed run is cut short: a buffer claims {size!r} bytes, {len(data) - offset} are left"
                )
            buffers.append(data[offset : offset + size])
            offset += size
        messages.append(Message(content, tuple(buffers)))
    if offset != len(data):
        raise ValueError(f"packed run has {len(data) - offset} bytes that belong to no message")
    return messages


def _dict(value: object, name: str) -> Json:
    if not isinstance(value, dict):
        raise ValueError(f"packed run: {name} is no object")
    return cast(Json, value)


def _list(value: object, name: str) -> list[object]:
    if not isinstance(value, list):
        raise ValueError(f"packed run: {name} is no list")
    return cast(list[object], value)


def quantise(maps: NDArray[np.floating[Any]]) -> tuple[NDArray[np.uint8], list[list[float] | None]]:
    """Quantises maps to one byte per value: value = lo + byte / 255 * (hi - lo), within (hi - lo) / 510.

    Args:
        maps: (words, h, w) of any floating dtype; a word without a map is NaN.

    Returns:
        uint8 (words, h, w), and [lo, hi] of each word; a word whose map is not finite has zeros and None.

    Raises:
        ValueError: ``maps`` has not three axes.
    """
    if maps.ndim != 3:
        raise ValueError(f"maps must be (words, h, w), got shape {maps.shape}")
    values = np.asarray(maps, dtype=np.float64)
    quantised = np.zeros(values.shape, dtype=np.uint8)
    scales: list[list[float] | None] = []
    for index, plane in enumerate(values):
        if plane.size == 0 or not np.isfinite(plane).all():
            scales.append(None)
            continue
        lo, hi = float(plane.min()), float(plane.max())
        scales.append([lo, hi])
        if hi > lo:
            quantised[index] = np.rint((plane - lo) / (hi - lo) * 255)
    return quantised, scales


def dequantise(data: bytes, shape: Sequence[int], scales: Sequence[Sequence[float] | None]) -> NDArray[np.float32]:
    """Reverses `quantise`.

    Args:
        data: the bytes of the quantised maps.
        shape: (words, h, w).
        scales: (lo, hi) of each word, None for a word without a map.

    Returns:
        float32 (words, h, w); NaN for a word without a map.

    Raises:
        ValueError: the three do not fit together.
    """
    words, height, width = shape
    if len(data) != words * height * width or len(scales) != words:
        raise ValueError(f"maps of shape {tuple(shape)} with {len(scales)} scales do not fit {len(data)} bytes")
    maps = np.frombuffer(data, dtype=np.uint8).reshape(words, height, width).astype(np.float32)
    for plane, scale in zip(maps, scales, strict=True):
        if scale is None:
            plane[:] = np.nan
        else:
            lo, hi = scale
            plane *= (hi - lo) / 255
            plane += lo
    return maps


def json_number(value: float | None, digits: int | None = None) -> float | None:
    """Converts a number for JSON, which has neither NaN nor infinity.

    Args:
        value: the number.
        digits: decimal places to round to; None keeps all.

    Returns:
        The number, or None where it is not finite.
    """
    if value is None or not math.isfinite(value):
        return None
    return float(value) if digits is None else round(float(value), digits)


def json_numbers(values: NDArray[np.floating[Any]], digits: int = 4) -> list[float | None]:
    """Converts a vector for JSON.

    Args:
        values: (n,).
        digits: decimal places to round to.

    Returns:
        n numbers; None where a value is not finite.
    """
    return [json_number(value, digits) for value in values.tolist()]
