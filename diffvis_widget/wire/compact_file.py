"""The compact form of a trace file: a packed run as for the page, and before it one message with the trace's own data.

The first message holds the header of a whole trace file, and the tensors of stored results. Latents and maps of single
layers are left out; a tensor that its result can do without (maps of relevance) is left out where images of the page
would have to be made smaller for it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
from numpy.typing import NDArray

from diffvis_widget.traces import Record, Trace, TraceFileError
from diffvis_widget.traces.file.header import Header, read_header, write_header
from diffvis_widget.traces.file.image_codec import MAX_TOTAL, EncodedImages, decode, decode_png, stated_size
from diffvis_widget.traces.file.reader import TraceContent, warn_of_unknown
from diffvis_widget.traces.file.safetensors_reader import MAX_HEADER, strict_json
from diffvis_widget.traces.file.stored_results import DTYPES, read_results, result_tensors
from diffvis_widget.traces.types import Floats, Images

from .messages import VIEWS
from .packed_run import Json, Message, dequantise, pack, unpack
from .recorded_run import record
from .shrink import fit
from .video_messages import frames_in, image_buffers, read_maps

LIMIT = 3_000_000
MAX_FILE = 64 * 2**20  # larger files are not read; compact files stay far below
MAX_GUIDANCE = 64 * 2**20  # bytes of all decoded guidance maps
MAX_FLOAT16 = 65504.0


def write(trace: Trace) -> bytes:
    """Writes a trace in the compact form.

    Args:
        trace: the trace.

    Returns:
        The bytes of the file.

    Raises:
        ValueError: no form of the trace is smaller than `LIMIT` bytes.
    """
    messages = record(trace).payload.messages()
    first = _trace_message(trace, with_optional=True)

    def is_small(page: Sequence[Message]) -> bool:
        packed = pack([first, *page])
        return len(packed) < LIMIT and _header_length(packed) <= MAX_HEADER

    if not is_small(messages):
        first = _trace_message(trace, with_optional=False)
    page = fit(messages, is_small)
    if page is None:
        raise ValueError(f"this trace of {len(trace.steps)} steps has no form below {LIMIT} bytes: save it whole")
    return pack([first, *page])


def _header_length(packed: bytes) -> int:
    return int.from_bytes(packed[4:8], "little")


def _trace_message(trace: Trace, with_optional: bool) -> Message:
    tensors = result_tensors(trace.stored_results, with_optional)
    entries = [{"name": name, "dtype": part.dtype.name, "shape": list(part.shape)} for name, part in tensors.items()]
    content = {"type": "trace", "header": write_header(trace, {}), "tensors": entries}
    return Message(content, tuple(part.tobytes() for part in tensors.values()))


def read_content(path: Path) -> TraceContent:
    """Reads a compact file.

    Args:
        path: of the file.

    Returns:
        Its content.

    Raises:
        TraceFileError: it is damaged, contradicts itself, or is something else.
        ValueError: a stored result does not belong to the run.
        KeyError: a stored result names a word that the prompt does not have.
    """
    with path.open("rb") as file:
        data = file.read(MAX_FILE + 1)
    if len(data) > MAX_FILE:
        raise TraceFileError(f"it is no compact trace file: it has more than {MAX_FILE} bytes")
    # the packed form allows a longer header than a hostile file may cost
    if len(data) < 8 or _header_length(data) > MAX_HEADER:
        raise TraceFileError("its header is too long, or missing")
    messages = unpack(data)
    types = [message.content.get("type") for message in messages]
    steps = [message for message, kind in zip(messages, types, strict=True) if kind == "step"]
    if not types or types[0] != "trace" or types[-1] != "end":
        raise TraceFileError("it holds a packed run, but no trace")
    document = strict_json(str(messages[0].content.get("header")))
    header = read_header(document)
    warn_of_unknown(header)
    if len(steps) != len(header.steps):
        raise TraceFileError(f"it holds {len(steps)} steps, and its header {len(header.steps)}")
    header = replace(header, keep="words", reused=[()] * len(steps))
    images = messages[-1].buffers
    return TraceContent(
        header=header,
        records=_records(header, steps),
        image=_final_image(images, is_video=frames_in(steps[0].content) > 1),
        frames=_frames(steps),
        results=read_results(header, _tensors(messages[0], header)),
    )


def _tensors(message: Message, header: Header) -> dict[str, NDArray[Any]]:
    content = message.content
    entries = content.get("tensors") if "tensors" in content else _earlier_entries(content, header)
    if not isinstance(entries, list) or len(cast("list[Any]", entries)) != len(message.buffers):
        raise TraceFileError("the list of its tensors is missing")
    tensors: dict[str, NDArray[Any]] = {}
    for entry, data in zip(cast("list[Any]", entries), message.buffers, strict=True):
        fields = cast("dict[str, Any]", entry) if isinstance(entry, dict) else {}
        name, dtype = fields.get("name"), fields.get("dtype")
        shape = _shape(fields.get("shape"), *range(1, 9))
        if not isinstance(name, str) or name in tensors or dtype not in DTYPES or 0 in shape:
            raise TraceFileError("one of its tensors has an invalid description")
        if math.prod(shape) * np.dtype(dtype).itemsize != len(data):
            raise TraceFileError(f"its part {name!r} has {len(data)} bytes, which contradicts its shape")
        tensors[name] = np.frombuffer(data, dtype=dtype).reshape(shape)
    return tensors


def _earlier_entries(content: Mapping[str, Any], header: Header) -> list[Json]:
    """Names the tensors of a file from before version 0.2, which identified them by order and by flags."""
    names = [f"scores.{name}" for name in ("cosine", "share", "null", "emergence")] if header.results["scores"] else []
    saliency, relevance = header.results["saliency"], header.results["relevance"]
    for index, has_error in enumerate(_flags(content.get("stderr"), len(saliency), "saliency maps")):
        layers = saliency[index].get("layers")
        count = len(cast("list[Any]", layers)) if isinstance(layers, list) else 0
        names += [f"saliency.{index}", *([f"saliency.{index}.stderr"] if has_error else [])]
        names += [f"saliency.{index}.{number}" for number in range(count)]
    for index, has_maps in enumerate(_flags(content.get("lying", []), len(relevance), "curves of relevance")):
        names += [f"relevance.{index}.timesteps", f"relevance.{index}"]
        names += [f"relevance.{index}.maps"] if has_maps else []
    shapes = content.get("shapes")
    if not isinstance(shapes, list) or len(cast("list[Any]", shapes)) != len(names):
        raise TraceFileError("its shapes are missing, or it holds parts that its header does not name")
    return [
        {"name": name, "dtype": "float32", "shape": shape}
        for name, shape in zip(names, cast("list[Any]", shapes), strict=True)
    ]


def _flags(value: Any, count: int, subject: str) -> list[bool]:
    flags = cast("list[Any]", value) if isinstance(value, list) else []
    if len(flags) != count:
        raise TraceFileError(f"its {subject} are missing")
    return [bool(flag) for flag in flags]


def _shape(value: Any, *ranks: int) -> tuple[int, ...]:
    sizes = cast("list[Any]", value) if isinstance(value, list) else []
    if len(sizes) not in ranks or not all(type(size) is int and 0 <= size < 2**31 for size in sizes):
        raise TraceFileError("the shape of a part is invalid")
    return tuple(sizes)


def _final_image(parts: Sequence[bytes], is_video: bool) -> Images | None:
    """The final image, or the frames of the final video; None where the file has none."""
    if not is_video:
        return decode_png(parts[0]) if parts and parts[0] else None
    size = stated_size(parts[1]) if len(parts) > 1 else None
    if size is None:
        return None
    if size[0] * size[1] * 3 * len(parts) > MAX_TOTAL:
        raise TraceFileError(f"its video has {len(parts) - 1} frames of {size}")
    return np.stack([decode(frame, size) for frame in parts[1:]])


def _records(header: Header, steps: Sequence[Message]) -> list[Record]:
    frames = frames_in(steps[0].content) if steps else 1
    if any(frames_in(message.content) != frames for message in steps):
        raise TraceFileError("its steps have different numbers of frames")
    empty = np.empty((0, 0, 0) if frames == 1 else (0, frames, 0, 0), dtype=np.float32)
    maps = [_maps(header, message) for message in steps]
    refined = [_maps(header, message, "refined") if "refined" in message.content else None for message in steps]
    if any(len({None if part is None else part.shape for part in parts}) > 1 for parts in (maps, refined)):
        raise TraceFileError("its maps change size from step to step")
    guidance = [_guidance(message, len(steps)) for message in steps]
    if len({None if part is None else part.shape for part in guidance}) > 1:
        raise TraceFileError("its guidance changes size from step to step")
    return [
        Record(
            step=step,
            latents=empty,
            result=empty,
            prediction=empty,
            guidance=guidance[index],
            visible=header.visible[index],
            maps=(maps[index],) if header.layers else (),
            refined=None if (part := refined[index]) is None or not header.layers else part[0],
        )
        for index, step in enumerate(header.steps)
    ]


def _maps(header: Header, message: Message, kind: Literal["maps", "refined"] = "maps") -> NDArray[np.float16]:
    """The attention maps of a step, or its refined ones, float16 (1, words, h, w)."""
    maps = message.content.get(kind)
    fields = cast("dict[str, Any]", maps) if isinstance(maps, dict) else {}
    shape, scales = _shape(fields.get("shape"), 3), fields.get("scales")
    frames = frames_in(message.content)
    place = frames * len(_views(message)) + (kind == "refined")
    data = message.buffers[place] if place < len(message.buffers) else b""
    if shape[0] != len(header.words) or frames * math.prod(shape) != len(data):
        raise TraceFileError(f"the maps of a step are {len(data)} bytes, which contradicts their shape")
    if header.layers and 0 in shape[1:]:
        raise TraceFileError("the maps of a step are empty")
    ranges = cast("list[Any]", scales) if isinstance(scales, list) else []
    if len(ranges) != shape[0]:
        raise TraceFileError("the maps of a step have other words than the prompt")
    checked = [None if limits is None else _range(limits) for limits in ranges]
    maps_of_step = dequantise(data, shape, checked) if frames == 1 else read_maps(data, frames, shape, checked)
    return maps_of_step[None].astype(np.float16)


def _range(value: Any) -> tuple[float, float]:
    ends = cast("list[Any]", value) if isinstance(value, list) else []
    if len(ends) != 2 or not all(
        isinstance(end, int | float) and not isinstance(end, bool) and abs(end) <= MAX_FLOAT16 for end in ends
    ):
        raise TraceFileError("the range of a map is not two numbers")
    return float(ends[0]), float(ends[1])


def _views(message: Message) -> list[str]:
    value = message.content.get("views")
    views = cast("list[Any]", value) if isinstance(value, list) else []
    if len(message.buffers) != frames_in(message.content) * len(views) + 1 + ("refined" in message.content) or not all(
        view in VIEWS for view in views
    ):
        raise TraceFileError("the images of a step are missing")
    return cast("list[str]", views)


def _guidance(message: Message, steps: int) -> Floats | None:
    views, limits = _views(message), message.content.get("guidance_range")
    if "guidance" not in views or limits is None:
        return None
    low, high = _range(limits)
    parts = message.buffers[image_buffers(message.content, "guidance")]
    size = stated_size(parts[0])
    if size is None or size[0] * size[1] * steps * len(parts) * 4 > MAX_GUIDANCE:
        raise TraceFileError(f"the guidance of a step is an image of {size}")
    shares = np.stack([decode(data, size)[..., 0].astype(np.float32) for data in parts])
    guidance = (low + shares * ((high - low) / 255)).astype(np.float32)
    return guidance[0] if frames_in(message.content) == 1 else guidance


def _frames(steps: Sequence[Message]) -> dict[str, EncodedImages]:
    frames: dict[str, EncodedImages] = {}
    for kind in ("prediction", "latents"):
        if not all(kind in _views(message) for message in steps):
            continue
        count = frames_in(steps[0].content)
        encoded = [image for message in steps for image in message.buffers[image_buffers(message.content, kind)]]
        size = stated_size(encoded[0])
        if size is None or size[0] * size[1] * 3 * len(encoded) > MAX_TOTAL:
            raise TraceFileError(f"its {len(steps)} images are of {size}")
        frames[kind] = EncodedImages(encoded, size, None if count == 1 else count)
    return frames
