"""JoyImage-Edit: the image first, its reference, and the text at the end of one sequence.

The loop keeps latents as (n, items, C, 1, h, w), the reference before the image; the denoiser moves the image to the
front.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from diffvis_widget.tracer.guidance import norm_preserving
from diffvis_widget.tracer.words import Token
from diffvis_widget.traces.types import Size

from . import sequence_layouts
from .family import Family, modules_ending
from .latent_forms import LatentForm
from .token_streams import TokenStream, attended_tokens

_PATCH = 2
_IMAGE_TOKEN = "<|image_pad|>"


def after_template(pipe: Any, tokens: Sequence[Token], length: int) -> list[Token]:
    """Neither padding nor the beginning of the template; the pipeline keeps the end of what is too long.

    Args:
        pipe: The pipeline.
        tokens: Tokens of a prompt in its template.
        length: Number of text tokens that the denoiser receives.

    Returns:
        The tokens that the denoiser receives.
    """
    template = "multiple_images" if any(token.text == _IMAGE_TOKEN for token in tokens) else "image"
    rest = attended_tokens(pipe, tokens, length)[int(pipe.prompt_template_encode_start_idx[template]) :]
    return rest[-length:] if template == "multiple_images" else rest[:length]


def _size(pipe: Any, arguments: Mapping[str, Any], latents: Tensor) -> Size:
    return int(latents.shape[-2]), int(latents.shape[-1])


def _take(latents: Tensor, size: Size) -> Tensor:
    return latents[:, -1, :, 0]


def _put(latents: Tensor, image: Tensor) -> Tensor:
    changed = latents.clone()
    changed[:, -1, :, 0] = image
    return changed


def _reference_grids(arguments: Mapping[str, Any], row: int, image: int) -> list[Size]:
    latents: Tensor = arguments["hidden_states"]
    items, height, width = latents.shape[1], latents.shape[-2] // _PATCH, latents.shape[-1] // _PATCH
    return [(height, width)] * (items - 1) if latents.ndim == 6 else []


FAMILY = Family(
    name="JoyImage-Edit",
    denoisers=("JoyImageEditTransformer3DModel",),
    attention_modules=modules_ending(".attn"),
    token_streams=(TokenStream(("tokenizer",), select=after_template),),
    embedding_indices=(0, None),
    guidance_candidates=norm_preserving(1),
    sequence_layout=sequence_layouts.image_first,
    patch_size=_PATCH,
    latent_form=LatentForm(6, _size, _take, _put),
    reference_grids=_reference_grids,
)
