"""Which rows of a denoiser's batch carry the prompt, and which the negative prompt."""

from __future__ import annotations

from typing import Any

from diffvis_widget.tracer.families import Family

from .attention import Branch
from .prompt_encoding import CallPrompts


def branches(pipe: Any, family: Family, request: CallPrompts, text: Any, again: bool) -> dict[Branch, slice]:
    """By branch, its rows in an evaluation that was given `text`, all rows of the batch.

    again: whether the prompt was evaluated in this step already.
    """
    images, rows = request.images, len(text)
    if rows == images:
        return {_branch_of(request, text, again): slice(0, rows)}
    # rows with perturbed self-attention repeat the prompt behind the others
    last = rows - images if getattr(pipe, "do_perturbed_attention_guidance", False) else rows
    if last == images:
        return {"prompt": slice(0, images)}
    first, second = slice(0, images), slice(last - images, last)
    if family.negative_first:
        return {"prompt": second, "negative": first}
    return {"prompt": first, "negative": second}


def _branch_of(request: CallPrompts, text: Any, again: bool) -> Branch:
    """Which prompt a batch of one branch carries. Pipelines hand on what they encoded: the same tensors."""
    if request.negative is None or request.prompt.holds(text):
        return "prompt"
    if again or request.negative.holds(text):
        return "negative"
    return "negative" if not request.prompt.recognizes(text) and request.negative.recognizes(text) else "prompt"
