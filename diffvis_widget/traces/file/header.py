"""The JSON header of a trace file: written from a trace, read back with every field checked."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar, cast

from diffvis_widget.traces.resize import Size
from diffvis_widget.traces.results.notes import Note
from diffvis_widget.traces.trace import Keep, Layer, Step, Word

from .safetensors_reader import TraceFileError

if TYPE_CHECKING:
    from diffvis_widget.traces.trace import Trace

    from .image_codec import Pictures

FORMAT = 1
_Item = TypeVar("_Item")
_KEEPS = ("words", "layers", "heads")
_WORD_KINDS = ("word", "special", "template", "padding", "truncated")


@dataclass(frozen=True)
class PicturesHeader:
    """Sizes of the encoded pictures: (height, width) of all, and the bytes of each by kind."""

    size: Size
    lengths: dict[str, list[int]]


@dataclass(frozen=True)
class ScoresHeader:
    """Concepts and meter of the scores that the file holds."""

    concepts: list[str]
    meter: str


@dataclass(frozen=True)
class SaliencyHeader:
    """What a method's map is; its numbers are parts of the file."""

    method: str
    step: int
    masks_used: int
    layers: list[str]


@dataclass(frozen=True)
class RelevanceHeader:
    """Under which schedule the words were how relevant; the numbers are parts of the file."""

    schedule: str


@dataclass(frozen=True)
class Header:
    """What the JSON of a trace file says."""

    prompt: str
    negative_prompt: str | None
    keep: Keep
    words: list[Word]
    layers: list[Layer]
    steps: list[Step]
    visible: list[float]
    negative_words: list[Word] | None
    reused: list[tuple[int, ...]]
    meta: dict[str, Any]
    notes: list[Note]
    pictures: PicturesHeader | None
    scores: ScoresHeader | None
    saliency: list[SaliencyHeader]
    relevance: list[RelevanceHeader]


def write_header(trace: Trace, pictures: Mapping[str, Pictures]) -> str:
    """The header of a trace as JSON text. Raises ValueError for a `meta` that is not plain JSON."""
    document: dict[str, Any] = {
        "format": FORMAT,
        "prompt": trace.prompt,
        "negative_prompt": trace.negative_prompt,
        "keep": trace.keep,
        "words": [_written(word) for word in trace.words],
        "negative_words": None if trace.negative_words is None else [_written(word) for word in trace.negative_words],
        "layers": [
            {
                "name": layer.name,
                "kind": layer.kind,
                "heads": layer.heads,
                "grid": layer.grid,
                "default": layer.default,
            }
            for layer in trace.layers
        ],
        "steps": [
            {
                "timestep": record.step.timestep,
                "sigma": record.step.sigma,
                "second_order": record.step.second_order,
                "visible": record.visible,
                "reused": record.reused,
            }
            for record in trace.records
        ],
        "notes": [written_note(note) for note in trace.notes],
        "pictures": None,
        "scores": None,
        "saliency": [
            {"method": one.method, "step": one.step, "masks_used": one.masks_used, "layers": list(one.layers)}
            for one in trace.saliency
        ],
        "relevance": [{"schedule": one.schedule} for one in trace.relevance],
        "meta": trace.meta,
    }
    if pictures:
        lengths = {kind: [len(one) for one in found.encoded] for kind, found in pictures.items()}
        document["pictures"] = {"size": next(iter(pictures.values())).size, "lengths": lengths}
    if trace.scores is not None:
        document["scores"] = {"concepts": trace.scores.concepts, "meter": trace.scores.meter}
    try:
        return json.dumps(
            document, allow_nan=False
        )  # escapes everything but ASCII: lone surrogates in a prompt survive
    except (TypeError, ValueError) as error:
        raise ValueError(f"meta holds something that JSON cannot: {error}") from None


def _written(word: Word) -> dict[str, Any]:
    return {
        "text": word.text,
        "tokens": word.tokens,
        "kind": word.kind,
        "pieces": word.token_texts,
        "stream": word.encoder,
    }


def written_note(note: Note) -> dict[str, Any]:
    """A note as JSON; `read_note` reads it."""
    return {"text": note.text, "step": note.step, "words": note.words, "region": note.region}


def read_header(document: Any) -> Header:
    """Check a parsed header. Raises TraceFileError that names the field at fault."""
    fields = _mapping("the header", document)
    version = fields.get("format")
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise TraceFileError(f"its format is {version!r}")
    if version > FORMAT:
        raise TraceFileError(f"it was written by a newer version (format {version}; this one reads up to {FORMAT})")
    keep = fields.get("keep")
    if keep not in _KEEPS:
        raise TraceFileError(f"its field 'keep' is {keep!r}")
    negative = fields.get("negative_prompt")
    written = fields.get("negative_words")
    header = Header(
        prompt=_text("prompt", fields.get("prompt")),
        negative_prompt=None if negative is None else _text("negative_prompt", negative),
        keep=keep,
        words=_items("words", fields.get("words"), _word, least=0),
        layers=_items("layers", fields.get("layers"), _layer, least=0),
        steps=[],
        visible=[],
        negative_words=None if written is None else _items("negative_words", written, _word, least=0),
        reused=[],
        meta=_mapping("meta", fields.get("meta")),
        notes=_items("notes", fields.get("notes", []), read_note, least=0),
        pictures=_optional(fields.get("pictures"), _pictures),
        scores=_optional(fields.get("scores"), _scores),
        saliency=_items("saliency", fields.get("saliency", []), _saliency, least=0),
        relevance=_items("relevance", fields.get("relevance", []), _relevance, least=0),
    )
    for index, one in enumerate(_items("steps", fields.get("steps"), lambda item: _mapping("steps", item))):
        second = one.get("second_order")
        if not isinstance(second, bool):
            raise TraceFileError(f"its field 'second_order' is {second!r}")
        header.steps.append(Step(index, _number("timestep", one), _number("sigma", one), second))
        header.visible.append(_number("visible", one))
        reused = _items("reused", one.get("reused", []), lambda value: _integer("reused", value, 0, 65536), least=0)
        if any(index >= len(header.layers) for index in reused):
            raise TraceFileError(f"its field 'reused' holds {reused}, with {len(header.layers)} layers")
        header.reused.append(tuple(reused))
    return header


def read_note(item: Any) -> Note:
    """A note from JSON. Raises TraceFileError."""
    fields = _mapping("notes", item)
    words = _items("words", fields.get("words"), lambda word: word, least=0)
    try:
        return Note(_text("text", fields.get("text")), fields.get("step"), tuple(words), fields.get("region"))
    except (TypeError, ValueError) as error:
        raise TraceFileError(f"one of its notes cannot be: {error}") from None


def _optional(value: Any, read: Callable[[Any], _Item]) -> _Item | None:
    return None if value is None else read(value)


def _pictures(item: Any) -> PicturesHeader:
    fields = _mapping("pictures", item)
    lengths = {
        kind: _items(kind, one, lambda value: _integer("lengths", value, 1, 2**31))
        for kind, one in _mapping("lengths", fields.get("lengths")).items()
    }
    return PicturesHeader(_size("size", fields.get("size")), lengths)


def _scores(item: Any) -> ScoresHeader:
    fields = _mapping("scores", item)
    concepts = _items("concepts", fields.get("concepts"), lambda value: _text("concepts", value))
    return ScoresHeader(concepts, _text("meter", fields.get("meter")))


def _saliency(item: Any) -> SaliencyHeader:
    fields = _mapping("saliency", item)
    return SaliencyHeader(
        _text("method", fields.get("method")),
        _integer("step", fields.get("step"), 0, 100_000),
        _integer("masks_used", fields.get("masks_used"), 0, 2**31),
        _items("layers", fields.get("layers"), lambda value: _text("layers", value), least=0),
    )


def _relevance(item: Any) -> RelevanceHeader:
    return RelevanceHeader(_text("schedule", _mapping("relevance", item).get("schedule")))


def _word(item: Any) -> Word:
    fields = _mapping("words", item)
    kind = fields.get("kind")
    if kind not in _WORD_KINDS:
        raise TraceFileError(f"a word is of kind {kind!r}")
    tokens = _items("tokens", fields.get("tokens"), lambda value: _integer("tokens", value, 0, 1_000_000), least=0)
    pieces = _items("pieces", fields.get("pieces"), lambda value: _text("pieces", value), least=0)
    stream = _text("stream", fields.get("stream", ""))
    return Word(_text("text", fields.get("text")), tuple(tokens), kind, tuple(pieces), stream)


def _layer(item: Any) -> Layer:
    fields = _mapping("layers", item)
    kind, default = fields.get("kind"), fields.get("default")
    if kind not in ("cross", "joint") or not isinstance(default, bool):
        raise TraceFileError(f"a layer is of kind {kind!r} with default {default!r}")
    heads = _integer("heads", fields.get("heads"), 1, 65536)
    return Layer(_text("name", fields.get("name")), kind, heads, _size("grid", fields.get("grid")), default)


def _size(name: str, value: Any) -> Size:
    sides = _items(name, value, lambda side: _integer(name, side, 1, 65536))
    if len(sides) != 2:
        raise TraceFileError(f"its field {name!r} is {sides}, not a height and a width")
    return sides[0], sides[1]


def _mapping(name: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise TraceFileError(f"its field {name!r} is no mapping")
    return cast("dict[str, Any]", value)


def _items(name: str, value: Any, read: Callable[[Any], _Item], least: int = 1) -> list[_Item]:
    if not isinstance(value, list) or not least <= len(cast("list[Any]", value)) <= 100_000:
        raise TraceFileError(f"its field {name!r} is no list of a sensible length")
    return [read(item) for item in cast("list[Any]", value)]


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise TraceFileError(f"its field {name!r} is no text")
    return value


def _integer(name: str, value: Any, low: int, high: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise TraceFileError(f"its field {name!r} holds no whole number from {low} to {high}")
    return value


def _number(name: str, fields: dict[str, Any]) -> float:
    value = fields.get(name)
    if isinstance(value, int | float) and not isinstance(value, bool):
        with contextlib.suppress(OverflowError):  # a whole number may have thousands of digits
            if math.isfinite(number := float(value)):
                return number
    raise TraceFileError(f"its field {name!r} holds no number of a sensible size")
