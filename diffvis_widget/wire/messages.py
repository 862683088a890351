"""The messages between kernel and page, and the one packed form of a run.

A message is a JSON object (``content``) and a list of binary ``buffers``. The page gets them one by one while the
model runs; packed together they are the ``_snapshot`` trait. This module only turns data into
messages and back: it starts nothing, holds nothing and imports neither torch nor a notebook.

The same bytes are read by ``js/src/core/protocol.ts``; the files in ``tests/golden`` hold both sides to one meaning.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from diffvis_widget.traces import Layer, Step, Word

MAGIC = b"DVR1"
MAX_HEADER = 64 * 1024 * 1024

View = Literal["prediction", "latents", "guidance"]
State = Literal["done", "stopped", "failed"]
Json = dict[str, Any]
RequestId = int | str  # the page chooses it, and the reply carries it
VIEWS: tuple[View, ...] = ("prediction", "latents", "guidance")


@dataclass(frozen=True, slots=True)
class Message:
    """One message: ``content`` is JSON, ``buffers`` are bytes."""

    content: Json
    buffers: tuple[bytes, ...] = ()

    @property
    def size(self) -> int:
        """Bytes that this message costs on the wire, near enough: the buffers and a guess at the JSON."""
        return sum(len(buffer) for buffer in self.buffers) + 512

    def stamped(self, seq: int) -> Message:
        """The same message with its sequence number."""
        return Message({**self.content, "seq": seq}, self.buffers)


def pack(messages: Sequence[Message]) -> bytes:
    """Messages as bytes: magic, length of the header (uint32, little endian), JSON header, all buffers in order."""
    entries = [{"content": m.content, "buffers": [len(b) for b in m.buffers]} for m in messages]
    text = json.dumps({"messages": entries}, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    header = text.encode("utf-8", "replace")  # half an emoji in a recorded prompt cannot be sent
    return b"".join([MAGIC, struct.pack("<I", len(header)), header, *(b for m in messages for b in m.buffers)])


def unpack(data: bytes) -> list[Message]:
    """The messages in ``data``.

    Raises:
        ValueError: ``data`` is not the packed form, is cut short, or carries bytes that no message claims.
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


def _dict(value: object, what: str) -> Json:
    if not isinstance(value, dict):
        raise ValueError(f"packed run: {what} is no object")
    return cast(Json, value)


def _list(value: object, what: str) -> list[object]:
    if not isinstance(value, list):
        raise ValueError(f"packed run: {what} is no list")
    return cast(list[object], value)


@dataclass(frozen=True, slots=True)
class Settings:
    """What a run was asked to do, as the page tells it."""

    prompt: str
    negative_prompt: str | None
    seed: int | None
    steps: int
    guidance_scale: float | None
    schedule: str
    schedule_strength: float
    scheduler: str
    pipeline: str
    weights: Mapping[str, float | None] = field(default_factory=dict[str, "float | None"])


def run_message(
    run: str,
    settings: Settings,
    words: Sequence[Word],
    pieces: Sequence[Sequence[str]],
    unknown: Collection[str],
    grid: tuple[int, int],
    image: tuple[int, int],
    layers: Sequence[Layer],
    views: Sequence[View],
    meter: str | None,
) -> Message:
    """Begins a run on the page: its settings, its words and what can be looked at.

    ``pieces`` holds the token texts of each word; ``unknown`` the words (lower case) that the model never saw;
    ``grid`` is (h, w) of the maps, (0, 0) where there are none, and ``image`` (H, W) of the picture. A model that reads
    the prompt with several text encoders has its words once for each, and a word's ``encoder`` names it.
    """
    return Message(
        {
            "type": "run",
            "run": run,
            "prompt": settings.prompt,
            "negative_prompt": settings.negative_prompt,
            "seed": settings.seed,
            "steps": settings.steps,
            "guidance_scale": number(settings.guidance_scale),
            "scheduler": settings.scheduler,
            "schedule": settings.schedule,
            "schedule_strength": settings.schedule_strength,
            "weights": dict(settings.weights),
            "pipeline": settings.pipeline,
            "words": [
                {
                    "text": word.text,
                    "tokens": [int(token) for token in word.tokens],
                    "token_texts": list(texts),
                    "kind": word.kind,
                    "encoder": str(getattr(word, "encoder", None) or ""),
                    "unknown": word.kind == "word" and word.text.lower() in unknown,
                }
                for word, texts in zip(words, pieces, strict=True)
            ],
            "grid": list(grid),
            "image": list(image),
            "layers": [
                {
                    "name": layer.name,
                    "kind": layer.kind,
                    "heads": layer.heads,
                    "grid": list(layer.grid),
                    "default": layer.default,
                }
                for layer in layers
            ],
            "views": list(views),
            "meter": meter,
        }
    )


def step_message(
    run: str,
    step: Step,
    maps: NDArray[np.floating[Any]],
    images: Mapping[View, bytes],
    guidance_range: tuple[float, float] | None,
    exact: bool,
    elapsed: float,
) -> Message:
    """One finished step. ``maps`` is (words, h, w), NaN for a word without a map; ``images`` are encoded."""
    quantised, scales = quantise(maps)
    views: list[View] = [view for view in VIEWS if view in images]
    content: Json = {
        "type": "step",
        "run": run,
        "index": step.index,
        "timestep": number(step.timestep),
        "sigma": number(step.sigma),
        "second_order": step.second_order,
        "maps": {"shape": list(maps.shape), "scales": scales},
        "exact": exact,
        "views": views,
        "guidance_range": None if guidance_range is None else [number(value) for value in guidance_range],
        "elapsed": round(elapsed, 3),
    }
    return Message(content, (*(images[view] for view in views), quantised.tobytes()))


def frame_message(run: str, index: int, image: bytes) -> Message:
    """The exactly decoded prediction of a step: it replaces the preview that the page shows."""
    return Message({"type": "frame", "run": run, "index": index, "exact": True}, (image,))


def scores_message(
    run: str,
    start: int,
    concepts: Sequence[str],
    cosine: NDArray[np.floating[Any]],
    null_band: NDArray[np.floating[Any]],
    share: NDArray[np.floating[Any]] | None,
    emergence: NDArray[np.floating[Any]],
    meter: str | None,
) -> Message:
    """Concept scores of the steps from ``start``: cosine and share (rows, K), null_band (rows, 2), emergence (K,)."""
    return Message(
        {
            "type": "scores",
            "run": run,
            "start": start,
            "concepts": list(concepts),
            "cosine": _rows(cosine),
            "null_band": _rows(null_band),
            "share": None if share is None else _rows(share),
            "emergence": [None if math.isnan(step) else int(step) for step in emergence.tolist()],
            "meter": meter,
        }
    )


@dataclass(frozen=True, slots=True)
class LayerMap:
    """A word's map (h, w) in one layer: of one head, or the mean over its heads (None)."""

    layer: str
    head: int | None
    map: NDArray[np.floating[Any]]


def layers_message(run: str, request: RequestId, step: int, word: int, maps: Sequence[LayerMap]) -> Message:
    """The answer to a page that asked for a word's maps layer by layer. One buffer: all maps, one after the other."""
    told: list[Json] = []
    data: list[bytes] = []
    for one in maps:
        quantised, (scale,) = quantise(one.map[None])
        grid = [int(size) for size in one.map.shape]
        told.append({"layer": one.layer, "head": one.head, "grid": grid, "scale": scale, "focus": focus(one.map)})
        data.append(quantised.tobytes())
    content = {"type": "layers", "run": run, "id": request, "step": step, "word": word, "maps": told}
    return Message(content, (b"".join(data),))


def focus(values: NDArray[np.floating[Any]]) -> float | None:
    """How much a map keeps to few places: 0 if it is flat, 1 if it is one cell; 1 minus its normalised entropy."""
    total = float(values.sum())
    if values.size < 2 or not math.isfinite(total) or total <= 0:
        return None
    share = values[values > 0].astype(np.float64) / total
    return round(1 + float((share * np.log(share)).sum()) / math.log(values.size), 4)


def end_message(
    run: str, state: State, steps: int, seconds: float, error: str | None = None, image: bytes | None = None
) -> Message:
    """The run is over; ``image`` is the final picture as PNG, where there is one."""
    content: Json = {
        "type": "end",
        "run": run,
        "state": state,
        "steps": steps,
        "error": error,
        "seconds": round(seconds, 3),
    }
    return Message(content, () if image is None else (image,))


def more_message(request: RequestId, script: bytes, style: str) -> Message:
    """The answer to a page that opens the first of the views which are no part of its bundle."""
    return Message({"type": "more", "id": request, "style": style}, (script,))


def error_message(run: str | None, message: str, request: RequestId | None = None) -> Message:
    """The answer to a page message that could not be carried out; ``request`` is the id of a question that it was."""
    return Message({"type": "error", "run": run, "id": request, "message": message})


def quantise(maps: NDArray[np.floating[Any]]) -> tuple[NDArray[np.uint8], list[list[float] | None]]:
    """Maps (words, h, w) as one byte a value, and [lo, hi] per word: value = lo + byte / 255 * (hi - lo).

    The error is at most (hi - lo) / 510 per value. A word whose map is NaN gets zeros and no scale.
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
    """The maps (words, h, w) that ``quantise`` wrote, NaN where a word has no scale."""
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


def number(value: float | None) -> float | None:
    """``value`` for JSON, which has no NaN and no infinity: they become None."""
    return None if value is None or not math.isfinite(value) else float(value)


def _rows(values: NDArray[np.floating[Any]]) -> list[list[float | None]]:
    # Five digits are far below a cosine's own noise and a third of the bytes.
    return [[None if math.isnan(v) else round(v, 5) for v in row] for row in cast(list[list[float]], values.tolist())]
