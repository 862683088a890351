"""Z-Image: joint attention; image and text are each padded to a multiple of 32, lists in place of batches."""

from __future__ import annotations

import math

from .family import Family, modules_ending
from .sequence_layouts import Spans
from .token_streams import TokenStream, attended_tokens


def _padded_image_first(keys: int, text: int, image: int) -> Spans | None:
    """The image, padded to a multiple of 32, and the text, padded likewise."""
    start = math.ceil(image / 32) * 32
    return (slice(start, start + text), slice(0, image)) if start + text <= keys else None


FAMILY = Family(
    name="Z-Image",
    denoisers=("ZImageTransformer2DModel",),
    attention_modules=modules_ending(".attention"),
    token_streams=(TokenStream(("tokenizer",), select=attended_tokens),),
    text_argument="cap_feats",
    negative_first=False,
    sequence_layout=_padded_image_first,
    patch_size=2,
)
