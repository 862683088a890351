"""The compact form of a trace file: what the page shows of a run, packed as for the page, and the trace's own header.

The first message is for this module alone: the header of a whole trace file, and scores, saliency and relevance as
float32. The others are those of the page. Latents and maps of single layers are left out; maps of relevance are in it
where all that the page shows finds room beside them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from diffvis_widget.traces import ConceptScores, Record, Saliency, Trace, TraceFileError, WordRelevance
from diffvis_widget.traces.file.header import Header, read_header, write_header
from diffvis_widget.traces.file.image_codec import MAX_TOTAL, Pictures, decode, decode_png, stated_size
from diffvis_widget.traces.file.safetensors_reader import MAX_HEADER, strict_json
from diffvis_widget.traces.file.validation import check_additions

from .messages import VIEWS
from .packed_run import Message, dequantise, pack, unpack
from .recorded_run import record
from .shrink import fit

LIMIT = 3_000_000
MAX_FILE = 64 * 2**20  # no compact file comes near; more is not read
MAX_GUIDANCE = 64 * 2**20  # bytes that the guidance maps unpack to
MAX_FLOAT16 = 65504.0
_SCORES = ("cosine", "share", "null_band", "emergence")
Floats = NDArray[np.float32]


def write(trace: Trace) -> bytes:
    """The trace as a compact file. Raises ValueError if no form of it is smaller than LIMIT bytes."""
    whole = record(trace).payload.messages()
    own = _own(trace, with_maps=True)

    def small(tried: Sequence[Message]) -> bool:
        packed = pack([own, *tried])
        return len(packed) < LIMIT and _header_length(packed) <= MAX_HEADER

    if not small(whole):
        own = _own(trace, with_maps=False)
    page = fit(whole, small)
    if page is None:
        raise ValueError(f"this trace of {len(trace.steps)} steps has no form below {LIMIT} bytes: save it whole")
    return pack([own, *page])


def _header_length(packed: bytes) -> int:
    return int.from_bytes(packed[4:8], "little")


def _own(trace: Trace, with_maps: bool) -> Message:
    """with_maps: of relevance."""
    parts: list[NDArray[Any]] = []
    if trace.scores is not None:
        parts += [getattr(trace.scores, name) for name in _SCORES]
    stderr: list[bool] = []
    for one in trace.saliency:
        stderr.append(one.stderr is not None)
        parts += [one.map, *([] if one.stderr is None else [one.stderr]), *one.layers.values()]
    lying: list[bool] = []
    for one in trace.relevance:
        maps = one.maps if with_maps else None
        lying.append(maps is not None)
        parts += [one.timesteps, one.raw, *([] if maps is None else [maps])]
    floats = [np.ascontiguousarray(part, dtype=np.float32) for part in parts]
    shapes = [list(part.shape) for part in floats]
    content = {"type": "trace", "header": write_header(trace, {}), "shapes": shapes, "stderr": stderr, "lying": lying}
    return Message(content, tuple(part.tobytes() for part in floats))


def read(path: Path) -> Trace:
    """The trace in a compact file. Raises TraceFileError for one that is damaged or contradicts itself."""
    if path.stat().st_size > MAX_FILE:
        raise TraceFileError(f"{path} is no compact trace file: it has more than {MAX_FILE} bytes")
    data = path.read_bytes()
    # the packed form allows more than a hostile file shall cost
    if len(data) < 8 or _header_length(data) > MAX_HEADER:
        raise TraceFileError("its header is too long, or missing")
    messages = unpack(data)
    by_type = [message.content.get("type") for message in messages]
    steps = [message for message, kind in zip(messages, by_type, strict=True) if kind == "step"]
    if not by_type or by_type[0] != "trace" or by_type[-1] != "end":
        raise TraceFileError("it holds a packed run, but no trace")
    content, parts = messages[0].content, _parts(messages[0])
    header = read_header(strict_json(str(content.get("header"))))
    if len(steps) != len(header.steps):
        raise TraceFileError(f"it holds {len(steps)} steps, and its header {len(header.steps)}")
    header = replace(header, keep="words", reused=[()] * len(steps))
    end = messages[-1].buffers
    trace = Trace(
        prompt=header.prompt,
        negative_prompt=header.negative_prompt,
        words=header.words,
        negative_words=header.negative_words,
        layers=header.layers,
        keep="words",
        meta=header.meta,
        records=_records(header, steps),
        image=decode_png(end[0]) if end else None,
        pictures=_pictures(steps),
        notes=header.notes,
        scores=_scores(header, parts),
        saliency=_saliency(header, content.get("stderr"), parts),
        relevance=_relevance(header, content.get("lying", []), parts),
    )
    if parts:
        raise TraceFileError(f"it holds {len(parts)} parts that its header does not name")
    check_additions(trace)
    return trace


def _parts(message: Message) -> list[Floats]:
    shapes = message.content.get("shapes")
    if not isinstance(shapes, list) or len(cast("list[Any]", shapes)) != len(message.buffers):
        raise TraceFileError("its shapes are missing")
    return [_floats(data, shape) for data, shape in zip(message.buffers, cast("list[Any]", shapes), strict=True)]


def _floats(data: bytes, shape: Any) -> Floats:
    sizes = _shape(shape, 1, 2, 4)
    if 4 * math.prod(sizes) != len(data):
        raise TraceFileError(f"a part of it has {len(data)} bytes, which contradicts its shape")
    return np.frombuffer(data, dtype=np.float32).reshape(sizes)


def _shape(value: Any, *ranks: int) -> tuple[int, ...]:
    sizes = cast("list[Any]", value) if isinstance(value, list) else []
    if len(sizes) not in ranks or not all(type(size) is int and 0 <= size < 2**31 for size in sizes):
        raise TraceFileError("the shape of a part cannot be")
    return tuple(sizes)


def _scores(header: Header, parts: list[Floats]) -> ConceptScores | None:
    if header.scores is None:
        return None
    if len(parts) < len(_SCORES):
        raise TraceFileError("its scores are missing")
    cosine, share, null_band, emergence = (parts.pop(0) for _ in _SCORES)
    return ConceptScores(header.scores.concepts, cosine, share, null_band, emergence, header.scores.meter)


def _saliency(header: Header, stderr: Any, parts: list[Floats]) -> list[Saliency]:
    flags = _flags(stderr, len(header.saliency), "saliency maps")
    found: list[Saliency] = []
    for one, has in zip(header.saliency, flags, strict=True):
        if len(parts) < 1 + has + len(one.layers):
            raise TraceFileError("its saliency maps are missing")
        values = parts.pop(0)
        error = parts.pop(0) if has else None
        layers = {name: parts.pop(0) for name in one.layers}
        found.append(Saliency(one.method, one.step, values, error, one.masks_used, layers))
    return found


def _relevance(header: Header, lying: Any, parts: list[Floats]) -> list[WordRelevance]:
    found: list[WordRelevance] = []
    for one, has in zip(header.relevance, _flags(lying, len(header.relevance), "curves of relevance"), strict=True):
        if len(parts) < 2 + has:
            raise TraceFileError("its relevance is missing")
        timesteps, raw = parts.pop(0), parts.pop(0)
        found.append(WordRelevance(one.schedule, timesteps, raw, parts.pop(0) if has else None))
    return found


def _flags(value: Any, count: int, what: str) -> list[bool]:
    flags = cast("list[Any]", value) if isinstance(value, list) else []
    if len(flags) != count:
        raise TraceFileError(f"its {what} are missing")
    return [bool(flag) for flag in flags]


def _records(header: Header, steps: Sequence[Message]) -> list[Record]:
    nothing = np.empty((0, 0, 0), dtype=np.float32)
    maps = [_maps(header, message) for message in steps]
    if len({one.shape for one in maps}) > 1:
        raise TraceFileError("its maps change size from step to step")
    guidance = [_guidance(message, len(steps)) for message in steps]
    if len({None if one is None else one.shape for one in guidance}) > 1:
        raise TraceFileError("its guidance changes size from step to step")
    return [
        Record(
            step=step,
            latents=nothing,
            result=nothing,
            prediction=nothing,
            guidance=guidance[index],
            visible=header.visible[index],
            maps=(maps[index],) if header.layers else (),
        )
        for index, step in enumerate(header.steps)
    ]


def _maps(header: Header, message: Message) -> NDArray[np.float16]:
    """float16 (1, words, h, w)"""
    maps = message.content.get("maps")
    fields = cast("dict[str, Any]", maps) if isinstance(maps, dict) else {}
    shape, scales = _shape(fields.get("shape"), 3), fields.get("scales")
    data = message.buffers[-1] if message.buffers else b""
    if shape[0] != len(header.words) or math.prod(shape) != len(data):
        raise TraceFileError(f"the maps of a step are {len(data)} bytes, which contradicts their shape")
    if header.layers and 0 in shape[1:]:
        raise TraceFileError("the maps of a step are empty")
    ranges = cast("list[Any]", scales) if isinstance(scales, list) else []
    if len(ranges) != shape[0]:
        raise TraceFileError("the maps of a step have other words than the prompt")
    read = [None if one is None else _range(one) for one in ranges]
    return dequantise(data, shape, read)[None].astype(np.float16)


def _range(value: Any) -> tuple[float, float]:
    ends = cast("list[Any]", value) if isinstance(value, list) else []
    if len(ends) != 2 or not all(
        isinstance(end, int | float) and not isinstance(end, bool) and abs(end) <= MAX_FLOAT16 for end in ends
    ):
        raise TraceFileError("the range of a map is not two numbers")
    return float(ends[0]), float(ends[1])


def _views(message: Message) -> list[str]:
    views = message.content.get("views")
    found = cast("list[Any]", views) if isinstance(views, list) else []
    if len(message.buffers) != len(found) + 1 or not all(view in VIEWS for view in found):
        raise TraceFileError("the pictures of a step are missing")
    return cast("list[str]", found)


def _guidance(message: Message, steps: int) -> Floats | None:
    views, span = _views(message), message.content.get("guidance_range")
    if "guidance" not in views or span is None:
        return None
    lo, hi = _range(span)
    data = message.buffers[views.index("guidance")]
    size = stated_size(data)
    if size is None or size[0] * size[1] * steps * 4 > MAX_GUIDANCE:
        raise TraceFileError(f"the guidance of a step is a picture of {size}")
    return (lo + decode(data, size)[..., 0].astype(np.float32) * ((hi - lo) / 255)).astype(np.float32)


def _pictures(steps: Sequence[Message]) -> dict[str, Pictures]:
    found: dict[str, Pictures] = {}
    for kind in ("prediction", "latents"):
        if not all(kind in _views(message) for message in steps):
            continue
        encoded = [message.buffers[_views(message).index(kind)] for message in steps]
        size = stated_size(encoded[0])
        if size is None or size[0] * size[1] * 3 * len(steps) > MAX_TOTAL:
            raise TraceFileError(f"its {len(steps)} pictures are of {size}")
        found[kind] = Pictures(encoded, size)
    return found
