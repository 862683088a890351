"""Which rows of a denoiser's batch carry the prompt, and which the negative prompt."""

from __future__ import annotations

from typing import Any

from diffvis_widget.tracer.families import Family

from .attention import Branch
from .prompt_encoding import CallPrompts


def find_branch_rows(
    pipe: Any, family: Family, prompts: CallPrompts, text: Any, prompt_evaluated: bool
) -> dict[Branch, slice]:
    """Find which rows of an evaluation belong to which branch.

    Args:
        pipe: The pipeline; None for a loop outside of its `__call__`.
        family: Its model family.
        prompts: The prompts of the pipeline call.
        text: The text embeddings that the denoiser receives, one entry per row of the batch.
        prompt_evaluated: Whether the conditional branch was already evaluated in this denoising step.

    Returns:
        Rows of the batch by branch. Rows with perturbed attention belong to no branch.
    """
    images, rows = prompts.images, len(text)
    if rows == images:
        return {_branch_of(prompts, text, prompt_evaluated): slice(0, rows)}
    # perturbed-attention guidance appends rows that repeat the prompt
    # a model with references may append rows of these without the prompt
    has_more = family.references_alone_last and rows == 3 * images
    last = rows - images if has_more or getattr(pipe, "do_perturbed_attention_guidance", False) else rows
    if last == images:
        return {"prompt": slice(0, images)}
    first, second = slice(0, images), slice(last - images, last)
    if family.negative_first:
        return {"prompt": second, "negative": first}
    return {"prompt": first, "negative": second}


def has_known_branches(pipe: Any, family: Family, prompts: CallPrompts, text: Any) -> bool:
    """Whether an evaluation holds at most the conditional, the unconditional and a perturbed branch.

    Args:
        pipe: The pipeline.
        family: Its model family.
        prompts: The prompts of the pipeline call.
        text: The text embeddings that the denoiser receives, one entry per row of the batch.

    Returns:
        False where the branches cannot be told apart by their number.
    """
    perturbed = bool(getattr(pipe, "do_perturbed_attention_guidance", False))
    # with a reference at its side, an image is evaluated without prompt and reference, without prompt, and with both
    return len(text) <= (2 + (perturbed or family.side_by_side or family.references_alone_last)) * prompts.images


def _branch_of(prompts: CallPrompts, text: Any, prompt_evaluated: bool) -> Branch:
    """The branch of a batch that holds only one; pipelines pass the very tensors that they encoded."""
    if prompts.negative is None or prompts.prompt.holds(text):
        return "prompt"
    if prompt_evaluated or prompts.negative.holds(text):
        return "negative"
    return "negative" if not prompts.prompt.recognizes(text) and prompts.negative.recognizes(text) else "prompt"
