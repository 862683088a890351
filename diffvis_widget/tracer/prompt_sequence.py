"""Where text, image and reference images lie in the joint attention of a step that is evaluated again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from diffvis_widget.tracer.families.sequence_layouts import SequenceLayout

from .guided_denoiser import Denoiser


@dataclass(frozen=True)
class PromptSequence:
    """The sequence of joint attention in the row of the batch that carries the prompt.

    Attributes:
        layout: Where text and image lie; None for cross-attention.
        references: Where the tokens of each reference image lie; None: behind those of the image, one after another.
    """

    layout: SequenceLayout | None
    references: Sequence[slice] | None


def prompt_sequence(probe: Denoiser) -> PromptSequence:
    """Find the sequence of a denoiser.

    Args:
        probe: The denoiser of a step.

    Returns:
        The sequence, where the prompt of the trace is evaluated alone.
    """
    family = probe.family
    if family.row_layouts is None and family.reference_tokens is None:
        return PromptSequence(family.sequence_layout, None)
    evaluation, rows = probe.branch("prompt")
    arguments = {**probe.arguments(evaluation, rows), evaluation.latents: probe.inputs(evaluation, probe.latents, rows)}
    layout = family.sequence_layout if family.row_layouts is None else family.row_layouts(arguments)[0]
    return PromptSequence(layout, None if family.reference_tokens is None else family.reference_tokens(arguments, 0))
