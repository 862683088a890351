"""Z-Image Omni: joint attention to text in pieces, to references, and to what SigLIP saw of them.

The denoiser is given lists for each row of the batch. With n references the text is n + 2 pieces around them, of which
the last but one has the prompt; the references stand before the image. Each part is padded to a multiple of 32 tokens.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor

from diffvis_widget.traces.types import Size

from .family import Family, modules_ending, pipelines_named
from .sequence_layouts import SequenceLayout, Spans
from .token_streams import TokenizerCall, TokenStream, attended_tokens

_PATCH = 2
_MULTIPLE = 32


def _padded(tokens: int) -> int:
    return math.ceil(tokens / _MULTIPLE) * _MULTIPLE


def _place_of_prompt(pieces: int) -> int:
    """Which of the pieces has the prompt."""
    return max(pieces - 2, 0)


def _prompts(rows: Sequence[Sequence[Any]]) -> list[Any]:
    return [pieces[_place_of_prompt(len(pieces))] for pieces in rows]


def _encoded(result: Any) -> Any:
    return tuple(_prompts(rows) for rows in result)


def _tokenized(arguments: Mapping[str, Any], calls: Sequence[TokenizerCall]) -> list[TokenizerCall]:
    """The pieces of all prompts of a call are one list."""
    prompts = arguments["prompt"]
    rows = 1 if prompts is None or isinstance(prompts, str) else len(prompts)

    def of_prompts(parts: list[Any]) -> list[Any]:
        pieces = len(parts) // rows
        return _prompts([parts[row * pieces : (row + 1) * pieces] for row in range(rows)])

    return [replace(call, texts=of_prompts(call.texts), tokens=of_prompts(call.tokens)) for call in calls]


def _grid(image: Tensor) -> Size:
    return int(image.shape[2]) // _PATCH, int(image.shape[3]) // _PATCH


def _layout(text_start: int, image_start: int, keys: int, text: int, image: int) -> Spans | None:
    spans = slice(text_start, text_start + text), slice(image_start, image_start + image)
    return spans if spans[1].stop <= keys else None


def _without_references(keys: int, text: int, image: int) -> Spans | None:
    return _layout(0, _padded(text), keys, text, image)


def _row_layouts(arguments: Mapping[str, Any]) -> Sequence[SequenceLayout]:
    layouts: list[SequenceLayout] = []
    for row, pieces in enumerate(arguments["cap_feats"]):
        before = sum(_padded(len(piece)) for piece in pieces[: _place_of_prompt(len(pieces))])
        ends = [place.stop for place in _reference_tokens(arguments, row)]
        start = _padded(ends[-1]) if ends else _text_end(arguments, row)
        layouts.append(functools.partial(_layout, before, start))
    return layouts


def _text_end(arguments: Mapping[str, Any], row: int) -> int:
    return sum(_padded(len(piece)) for piece in arguments["cap_feats"][row])


def _reference_tokens(arguments: Mapping[str, Any], row: int) -> Sequence[slice]:
    """Of their latents; what SigLIP saw of them follows the image."""
    start, places = _text_end(arguments, row), list[slice]()
    for image in arguments["x"][row][:-1]:
        places.append(slice(start, start + math.prod(_grid(image))))
        start = _padded(places[-1].stop)
    return places


def _reference_grids(arguments: Mapping[str, Any], row: int, image: int) -> list[Size]:
    return [_grid(reference) for reference in arguments["x"][row][:-1]]


FAMILY = Family(
    name="Z-Image Omni",
    denoisers=("ZImageTransformer2DModel",),
    attention_modules=modules_ending(".attention"),
    accepts=pipelines_named("ZImageOmniPipeline"),
    token_streams=(TokenStream(("tokenizer",), select=attended_tokens),),
    text_argument="cap_feats",
    text_rows=_prompts,
    encoded=_encoded,
    tokenized=_tokenized,
    negative_first=False,
    sequence_layout=_without_references,
    row_layouts=_row_layouts,
    patch_size=_PATCH,
    reference_grids=_reference_grids,
    reference_tokens=_reference_tokens,
)
