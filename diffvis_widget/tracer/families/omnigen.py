"""OmniGen: joint attention to token ids that a processor makes, with references in the places of the text.

A prompt has `<img><|image_1|></img>` where a reference stands; the places of the reference are tokens of this word.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from diffvis_widget.tracer.words import Token
from diffvis_widget.traces.types import Size

from .family import Family, modules_ending
from .prompt_processors import Encoding, PromptProcessor
from .sequence_layouts import Spans
from .token_streams import TokenizerCall, TokenStream, padded_in_front

_PLACEHOLDER = re.compile(r"<\|image_\d+\|>")
_BEGINNING = 1  # the token id that the processor takes away from all pieces of a text but the first
_PATCH = 2


def _read(arguments: Mapping[str, Any], result: Any, calls: Sequence[TokenizerCall]) -> Encoding:
    """Prompts and negative prompts, of the token ids of prompts, negative prompts and references alone."""
    prompts: list[str] = list(arguments["prompt"])
    references = arguments["input_images"] or [None] * len(prompts)
    repeats = arguments["num_images_per_prompt"]
    rows, negative = len(prompts) * repeats, arguments["negative_prompt"]
    pieces = iter(calls)
    read: tuple[list[_Text], list[_Text]] = [], []
    for index, (prompt, images) in enumerate(zip(prompts, references, strict=True)):
        places = result["input_image_sizes"].get(index * repeats, []) if images else []
        read[0].append(_joined(pieces, _PLACEHOLDER.findall(prompt) if images else [], places))
        read[1].append(_joined(pieces, [], []))
        if images and arguments["use_img_cfg"]:
            _joined(pieces, [""] * len(images), [(0, 0)] * len(images))
    tokenizer = calls[0].tokenizer
    joined = [TokenizerCall(tokenizer, [text for text, _ in part], [tokens for _, tokens in part]) for part in read]
    ids = result["input_ids"]
    # with a prompt, its mask and the positions of its tokens are switched
    of_prompts = (
        ids[:rows],
        ids[rows : 2 * rows],
        *(result[name][:rows] for name in ("attention_mask", "position_ids")),
    )
    return {**arguments, "prompt": prompts, "negative_prompt": [negative] * len(prompts)}, of_prompts, joined


def _fixed_prompt(arguments: Mapping[str, Any]) -> str:
    has_references = any(images for images in arguments["input_images"] or ())
    return "its references stand in places of the prompt, and another prompt has others" if has_references else ""


_Text = tuple[str, list[Token]]


def _joined(pieces: Iterator[TokenizerCall], names: Sequence[str], places: Sequence[Sequence[int]]) -> _Text:
    """The text and tokens of the next pieces, with references of these names in places between them."""
    text, tokens = "", list[Token]()
    for index in range(len(names) + 1):
        piece = next(pieces)
        if index:
            name, (start, stop) = names[index - 1], places[index - 1]
            tokens += [Token(name, len(text), len(text) + len(name), special=True, attended=True)] * (stop - start)
            text += name
        begins = bool(index) and _begins(piece)
        tokens += [
            replace(token, start=token.start + len(text), end=token.end + len(text))
            for token in piece.tokens[0][int(begins) :]
        ]
        text += piece.texts[0]
    return text, tokens


def _begins(piece: TokenizerCall) -> bool:
    tokens = piece.tokens[0]
    return bool(tokens) and piece.tokenizer.convert_tokens_to_ids(tokens[0].text) == _BEGINNING


def _text_then_image(keys: int, text: int, image: int) -> Spans | None:
    """A token of the timestep stands between text and image."""
    return (slice(0, text), slice(keys - image, keys)) if text + image <= keys else None


def _of_row(arguments: Mapping[str, Any], row: int) -> slice:
    """Which of the references of a call belong to a row of its batch."""
    places: Mapping[int, Sequence[Any]] = arguments["input_image_sizes"]
    before = sum(len(places[other]) for other in list(places)[: list(places).index(row)]) if row in places else 0
    return slice(before, before + len(places.get(row, ())))


def _reference_grids(arguments: Mapping[str, Any], row: int, image: int) -> list[Size]:
    latents = arguments["input_img_latents"][_of_row(arguments, row)]
    return [(int(part.shape[2]) // _PATCH, int(part.shape[3]) // _PATCH) for part in latents]


def _reference_tokens(arguments: Mapping[str, Any], row: int) -> Sequence[slice]:
    return [slice(start, stop) for start, stop in arguments["input_image_sizes"].get(row, ())]


def _shared_arguments(arguments: Mapping[str, Any], rows: Sequence[int]) -> dict[str, Any]:
    """References, which are one list for all rows of the batch."""
    places: Mapping[int, Any] = arguments["input_image_sizes"]
    chosen = [part for row in rows for part in arguments["input_img_latents"][_of_row(arguments, row)]]
    return {
        "input_image_sizes": {index: places[row] for index, row in enumerate(rows) if row in places},
        "input_img_latents": chosen,
    }


FAMILY = Family(
    name="OmniGen",
    denoisers=("OmniGenTransformer2DModel",),
    attention_modules=modules_ending(".self_attn"),
    token_streams=(TokenStream(("tokenizer",), select=padded_in_front),),
    text_argument="input_ids",
    batch_axes={"position_ids": None},  # in diffusers 0.42 the rotary embedding of all rows is that of the first
    prompt_processor=PromptProcessor("multimodal_processor", "instructions", _read, _fixed_prompt, mixes_rows=True),
    shared_arguments=_shared_arguments,
    negative_first=False,
    references_alone_last=True,
    sequence_layout=_text_then_image,
    patch_size=_PATCH,
    reference_grids=_reference_grids,
    reference_tokens=_reference_tokens,
    encoded_references=_of_row,
)
