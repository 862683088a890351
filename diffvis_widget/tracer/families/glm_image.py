"""GLM-Image: joint attention to the letters of quoted text alone; a language model writes all else into the image.

The denoiser is given the quoted texts of a prompt one behind the other, by ByT5, a token for each letter. They are the
words of a trace, which has the whole prompt as `typed_prompt`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from diffvis_widget.tracer.fault_guard import CannotRecordError
from diffvis_widget.tracer.words import Token

from . import sequence_layouts
from .family import Family, modules_ending
from .token_streams import TokenStream, padded_in_front, special_tokens

_QUOTES = (r"'([^']*)'", "\u201c([^\u201c\u201d]*)\u201d", r'"([^"]*)"', r"「([^「」]*)」")
"""In the order in which the pipeline looks for them."""


def _quoted(prompt: str) -> str:
    """The quoted texts of a prompt, in the order in which the denoiser is given them."""
    return " ".join(text for quotes in _QUOTES for text in re.findall(quotes, prompt))


def _prompts(arguments: Mapping[str, Any], call: Mapping[str, Any]) -> Mapping[str, Any]:
    if call.get("image") is not None:
        raise CannotRecordError(
            "GLM-Image with images is not traced: it evaluates its denoiser for each of them before the first step, "
            "and reads their keys from a cache; pass no image"
        )
    prompts = arguments["prompt"]
    if prompts is None:
        return arguments
    texts = [_quoted(prompts)] if isinstance(prompts, str) else [_quoted(text) for text in prompts]
    return {**arguments, "prompt": texts}


def _letters(pipe: Any, tokens: Sequence[Token], length: int) -> list[Token]:
    """Of an even number of texts, each has padding in front that is attended to; shorter rows have more."""
    ends = [index + 1 for index, token in enumerate(tokens) if token.text == pipe.tokenizer.eos_token]
    texts = [tokens[start:end] for start, end in zip([0, *ends], ends, strict=False)]
    before = special_tokens((len(texts) + 1) % 2)
    return padded_in_front(pipe, [token for text in texts for token in (*before, *text)], length)


def _scale(vae: Any, latents: Tensor) -> Tensor:
    mean, deviation = (
        torch.tensor(part, dtype=latents.dtype, device=latents.device).view(1, -1, 1, 1)
        for part in (vae.config.latents_mean, vae.config.latents_std)
    )
    return latents * deviation + mean


FAMILY = Family(
    name="GLM-Image",
    denoisers=("GlmImageTransformer2DModel",),
    attention_modules=modules_ending(".attn1"),
    token_streams=(TokenStream(("tokenizer",), select=_letters, in_pieces=True),),
    prompt_arguments=_prompts,
    sequence_layout=sequence_layouts.text_first,
    patch_size=2,
    scale_for_vae=_scale,
)
