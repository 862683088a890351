"""The JSON header of a trace file: written from a trace, and read from what any program may have written."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from diffvis_widget.traces.errors import TraceFileError
from diffvis_widget.traces.json_fields import (
    read_integer,
    read_items,
    read_mapping,
    read_number,
    read_text,
    read_texts,
)
from diffvis_widget.traces.noise import read_level, write_level
from diffvis_widget.traces.results import StoredResult, result_kinds
from diffvis_widget.traces.types import Keep, Layer, Record, Size, Step, Word

from .image_codec import EncodedImages

FORMAT = 1
KEEPS = ("words", "layers", "heads")
WORD_KINDS = ("word", "special", "template", "padding", "truncated", "concept")


class HeaderSource(Protocol):
    """What a header describes: a trace.

    Attributes:
        prompt: see `Trace`, as for all others.
        negative_prompt: the negative prompt.
        keep: what of the attention maps was kept.
        words: the words of the prompt.
        negative_words: the words of the negative prompt.
        layers: the traced layers.
        meta: settings of the run.
    """

    prompt: str
    negative_prompt: str | None
    keep: Keep
    words: list[Word]
    negative_words: list[Word] | None
    layers: list[Layer]
    meta: dict[str, Any]

    @property
    def records(self) -> list[Record]:
        """The finished steps."""
        ...

    @property
    def stored_results(self) -> Mapping[str, Sequence[StoredResult]]:
        """The stored results by kind."""
        ...


@dataclass(frozen=True)
class ImagesHeader:
    """The encoded images of a file.

    Attributes:
        size: (height, width) of all.
        lengths: bytes of each image, by kind of frame.
        frames: for a video, how many images a step has; None for an image.
    """

    size: Size
    lengths: dict[str, list[int]]
    frames: int | None = None


@dataclass(frozen=True)
class Header:
    """The content of a header.

    Attributes:
        prompt: the prompt.
        negative_prompt: the negative prompt, None without.
        keep: what of the attention maps was kept.
        words: words of the prompt.
        layers: the traced layers.
        steps: the finished steps.
        visible: of each step, `Record.visible`.
        negative_words: words of the negative prompt, None without.
        reused: of each step, `Record.reused`.
        meta: settings of the run.
        images: the encoded images, None without.
        results: the headers of stored results by kind.
        unknown_results: kinds of stored results that are not registered.
    """

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
    images: ImagesHeader | None
    results: dict[str, list[dict[str, Any]]] = field(default_factory=dict[str, "list[dict[str, Any]]"])
    unknown_results: list[str] = field(default_factory=list[str])


def write_header(trace: HeaderSource, images: Mapping[str, EncodedImages]) -> str:
    """Writes the header of a trace.

    Args:
        trace: the trace.
        images: its encoded images by kind; empty for a file without.

    Returns:
        JSON. It escapes everything but ASCII, so that lone surrogates in a prompt survive.

    Raises:
        ValueError: ``meta`` or a stored result holds something that JSON cannot.
    """
    document: dict[str, Any] = {
        "format": FORMAT,
        "prompt": trace.prompt,
        "negative_prompt": trace.negative_prompt,
        "keep": trace.keep,
        "words": [_word_fields(word) for word in trace.words],
        "negative_words": None
        if trace.negative_words is None
        else [_word_fields(word) for word in trace.negative_words],
        "layers": [
            {
                "name": layer.name,
                "kind": layer.kind,
                "heads": layer.heads,
                "grid": layer.grid,
                "default": layer.default,
                **({"reference_grids": layer.reference_grids} if layer.reference_grids else {}),
            }
            for layer in trace.layers
        ],
        "steps": [
            {
                "timestep": write_level(record.step.timestep),
                "sigma": write_level(record.step.sigma),
                "second_order": record.step.second_order,
                "visible": record.visible,
                "reused": record.reused,
            }
            for record in trace.records
        ],
        "pictures": None,  # format 1 calls the encoded images so, here and in the names of their tensors
        "results": list(trace.stored_results),
        "meta": trace.meta,
    }
    kinds = result_kinds()
    for kind, results in trace.stored_results.items():
        headers = [result.header() for result in results]
        document[kind] = (headers or [None])[0] if kinds[kind].single else headers
    if images:
        lengths = {kind: [len(image) for image in encoded.encoded] for kind, encoded in images.items()}
        first = next(iter(images.values()))
        document["pictures"] = {"size": first.size, "lengths": lengths}
        document["pictures"] |= {} if first.frames is None else {"frames": first.frames}
    try:
        return json.dumps(document, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ValueError(f"meta holds something that JSON cannot: {error}") from None


def _word_fields(word: Word) -> dict[str, Any]:
    return {
        "text": word.text,
        "tokens": word.tokens,
        "kind": word.kind,
        "token_texts": word.token_texts,
        "encoder": word.encoder,
    }


def read_header(document: Any) -> Header:
    """Reads a header.

    Args:
        document: the parsed JSON.

    Returns:
        The header; the headers of stored results are mappings, which their classes check.

    Raises:
        TraceFileError: it is invalid; the message names the field.
    """
    fields = read_mapping("the header", document)
    version = fields.get("format")
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise TraceFileError(f"its format is {version!r}")
    if version > FORMAT:
        raise TraceFileError(f"it was written by a newer version (format {version}; this one reads up to {FORMAT})")
    keep = fields.get("keep")
    if keep not in KEEPS:
        raise TraceFileError(f"its field 'keep' is {keep!r}")
    negative, negative_words, images = (fields.get(name) for name in ("negative_prompt", "negative_words", "pictures"))
    kinds = result_kinds()
    stored = read_texts("results", fields.get("results", []), least=0)
    header = Header(
        prompt=read_text("prompt", fields.get("prompt")),
        negative_prompt=None if negative is None else read_text("negative_prompt", negative),
        keep=keep,
        words=read_items("words", fields.get("words"), _word, least=0),
        layers=read_items("layers", fields.get("layers"), _layer, least=0),
        steps=[],
        visible=[],
        negative_words=None if negative_words is None else read_items("negative_words", negative_words, _word, least=0),
        reused=[],
        meta=read_mapping("meta", fields.get("meta")),
        images=None if images is None else _images(images),
        results={name: _results(name, kind, fields.get(name)) for name, kind in kinds.items()},
        unknown_results=[name for name in stored if name not in kinds],
    )
    for index, entry in enumerate(read_items("steps", fields.get("steps"), lambda item: read_mapping("steps", item))):
        second = entry.get("second_order")
        if not isinstance(second, bool):
            raise TraceFileError(f"its field 'second_order' is {second!r}")
        timestep, sigma = (read_level(name, entry.get(name)) for name in ("timestep", "sigma"))
        header.steps.append(Step(index, timestep, sigma, second))
        header.visible.append(read_number("visible", entry.get("visible")))
        reused = read_items("reused", entry.get("reused", []), lambda item: read_integer("reused", item, 0, 65536), 0)
        if any(layer >= len(header.layers) for layer in reused):
            raise TraceFileError(f"its field 'reused' holds {reused}, with {len(header.layers)} layers")
        header.reused.append(tuple(reused))
    return header


def _results(name: str, kind: type[StoredResult], value: Any) -> list[dict[str, Any]]:
    if value is None:
        return []
    if kind.single:
        return [read_mapping(name, value)]
    return read_items(name, value, lambda item: read_mapping(name, item), least=0)


def _images(item: Any) -> ImagesHeader:
    fields = read_mapping("pictures", item)
    lengths = {
        kind: read_items(kind, values, lambda value: read_integer("lengths", value, 1, 2**31))
        for kind, values in read_mapping("lengths", fields.get("lengths")).items()
    }
    frames = None if fields.get("frames") is None else read_integer("frames", fields["frames"], 1, 65536)
    return ImagesHeader(_size("size", fields.get("size")), lengths, frames)


def _word(item: Any) -> Word:
    fields = read_mapping("words", item)
    kind = fields.get("kind")
    if kind not in WORD_KINDS:
        raise TraceFileError(f"a word is of kind {kind!r}")
    tokens = read_items(
        "tokens", fields.get("tokens"), lambda value: read_integer("tokens", value, 0, 1_000_000), least=0
    )
    # their names before version 0.2 were pieces and stream
    token_texts = read_texts("token_texts", fields.get("token_texts", fields.get("pieces")), least=0)
    encoder = read_text("encoder", fields.get("encoder", fields.get("stream", "")))
    return Word(read_text("text", fields.get("text")), tuple(tokens), kind, tuple(token_texts), encoder)


def _layer(item: Any) -> Layer:
    fields = read_mapping("layers", item)
    kind, default = fields.get("kind"), fields.get("default")
    if kind not in ("cross", "joint") or not isinstance(default, bool):
        raise TraceFileError(f"a layer is of kind {kind!r} with default {default!r}")
    heads = read_integer("heads", fields.get("heads"), 1, 65536)
    grids = read_items("reference_grids", fields.get("reference_grids", []), lambda grid: _size("grid", grid), 0)
    name, grid = read_text("name", fields.get("name")), _size("grid", fields.get("grid"))
    return Layer(name, kind, heads, grid, default, tuple(grids))


def _size(name: str, value: Any) -> Size:
    sides = read_items(name, value, lambda side: read_integer(name, side, 1, 65536))
    if len(sides) != 2:
        raise TraceFileError(f"its field {name!r} is {sides}, not a height and a width")
    return sides[0], sides[1]
