"""Which self-attention refines the maps of transformers for videos, whose text has attention of its own."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from .family import Modules, modules_ending


def at_a_third(*suffixes: str, inside: str | tuple[str, ...] = "") -> Callable[[nn.Module], Modules]:
    """Select the self-attention at a third of the depth, as `Family.refining_modules` does in joint attention.

    Of a video it is computed for one layer alone: its queries and keys are large.

    Args:
        *suffixes: Ends of the paths of all self-attention modules, such as ".attn1".
        inside: What the paths begin with, such as "transformer_blocks"; a tuple for several.

    Returns:
        A function for `Family.self_attention`.
    """
    every = modules_ending(*suffixes, inside=inside)

    def select(denoiser: nn.Module) -> Modules:
        modules = every(denoiser)
        return dict(list(modules.items())[len(modules) // 3 :][:1])

    return select
