"""LongCat-Image: joint attention to a prompt whose quoted parts are tokenized by characters; padding counts.

LongCat-Image-Edit has the tokens of the reference, as the text encoder saw it, in front of the prompt.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from diffvis_widget.tracer.guidance import norm_limiting
from diffvis_widget.tracer.words import Token

from . import sequence_layouts
from .family import Family, modules_ending
from .reference_grids import from_position_ids
from .token_streams import TokenStream, padded_behind

_REFERENCE = ("<|vision_start|>", "<|image_pad|>", "<|vision_end|>")


def _behind_the_reference(pipe: Any, tokens: Sequence[Token], length: int) -> list[Token]:
    """The prompt, padded to the length that the pipeline states, behind the tokens of a reference."""
    prompt = min(length, int(pipe.tokenizer_max_length))
    names = [_REFERENCE[0], *[_REFERENCE[1]] * (length - prompt - 2), _REFERENCE[2]] if length > prompt else []
    reference = [Token(name, 0, 0, special=True, attended=True) for name in names]
    return [*reference, *padded_behind(pipe, tokens, prompt)]


FAMILY = Family(
    name="LongCat-Image",
    denoisers=("LongCatImageTransformer2DModel",),
    attention_modules=modules_ending(".attn"),
    token_streams=(TokenStream(("tokenizer",), select=_behind_the_reference, in_pieces=True),),
    batch_axes={"img_ids": None, "txt_ids": None},
    embedding_indices=(0, None),
    guidance_candidates=norm_limiting(2),
    sequence_layout=sequence_layouts.text_first,
    patch_size=2,
    packing=2,
    reference_grids=from_position_ids,
)
