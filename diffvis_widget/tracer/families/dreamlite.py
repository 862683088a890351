"""DreamLite: a U-Net that sees the image at the left of its reference, as one image twice as wide."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from diffvis_widget.tracer.words import Token

from .family import Family, modules_ending
from .token_streams import TokenStream, attended_tokens
from .unet import halved_grid

_IMAGE_TOKEN = "<|image_pad|>"


def _after_template(pipe: Any, tokens: Sequence[Token], length: int) -> list[Token]:
    """Neither padding nor the beginning of the template, which differs where there is a reference."""
    task = "edit" if any(token.text == _IMAGE_TOKEN for token in tokens) else "generate"
    start = int(getattr(pipe, f"prompt_template_encode_{task}_start_idx"))
    return attended_tokens(pipe, tokens, length)[start:][:length]


def _of_both(result: Any) -> Any:
    """The text of the prompt is the last row, and that of the negative prompt the first, perhaps twice."""
    embeddings = result[0]
    return embeddings[-1:], embeddings[:1] if len(embeddings) > 1 else None


def _prompts(arguments: Mapping[str, Any], call: Mapping[str, Any]) -> Mapping[str, Any]:
    """The prompts are among others in a list, in words of the pipeline's own; the call has them as they were typed."""
    if not call.get("prompt"):
        return arguments
    return {**arguments, "prompt": call["prompt"], "negative_prompt": call.get("negative_prompt") or ""}


FAMILY = Family(
    name="DreamLite",
    denoisers=("DreamLiteUNetModel",),
    denoiser_attribute="unet",
    attention_kind="cross",
    attention_modules=modules_ending(".attn2"),
    self_attention=modules_ending(".attn1"),  # not in the blocks on the finest grid
    token_streams=(TokenStream(("tokenizer",), select=_after_template),),
    encoded=_of_both,
    prompt_arguments=_prompts,
    grid_of=halved_grid,
    side_by_side=True,
)
