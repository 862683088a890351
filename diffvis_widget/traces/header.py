"""The JSON header of a trace file: written from a trace, read back with every field checked."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar, cast

from .model import Keep, Layer, Step, Word

if TYPE_CHECKING:
    from .model import Trace

FORMAT = 1
_Item = TypeVar("_Item")
_KEEPS = ("words", "layers", "heads")
_WORD_KINDS = ("word", "special", "template", "padding", "truncated")


class TraceFileError(ValueError):
    """A file that is no trace, is damaged, contradicts itself or is of a newer format."""


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


def write_header(trace: Trace) -> str:
    """The header of a trace as JSON text. Raises ValueError for a `meta` that is not plain JSON."""
    document = {
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
        "meta": trace.meta,
    }
    try:
        return json.dumps(document)  # escapes everything but ASCII: lone surrogates in a prompt survive
    except (TypeError, ValueError) as error:
        raise ValueError(f"meta holds something that JSON cannot: {error}") from None


def _written(word: Word) -> dict[str, Any]:
    return {
        "text": word.text,
        "tokens": word.tokens,
        "kind": word.kind,
        "pieces": word.pieces,
        "stream": word.stream,
    }


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
    grid = _items("grid", fields.get("grid"), lambda value: _integer("grid", value, 1, 65536))
    if len(grid) != 2:
        raise TraceFileError(f"a layer has the grid {grid}")
    heads = _integer("heads", fields.get("heads"), 1, 65536)
    return Layer(_text("name", fields.get("name")), kind, heads, (grid[0], grid[1]), default)


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
        raise TraceFileError(f"its field {name!r} holds {value!r}")
    return value


def _number(name: str, fields: dict[str, Any]) -> float:
    value = fields.get(name)
    if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
        raise TraceFileError(f"its field {name!r} holds {value!r}")
    return float(value)
