"""Chooses which attention maps a run stores where its caller names none."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

from diffvis_widget.traces import Layer
from diffvis_widget.traces.types import Keep

MAX_MAPS = 2**30  # bytes of the attention maps of a video


def maps_nbytes(layers: Sequence[Layer], frames: int, words: int, steps: int) -> int:
    """Count the bytes of the attention maps of a run that keeps each layer.

    Args:
        layers: The traced layers.
        frames: Number of latent frames.
        words: Number of words.
        steps: Number of denoising steps.

    Returns:
        Bytes, as float16.
    """
    return 2 * steps * words * frames * sum(layer.grid[0] * layer.grid[1] for layer in layers)


def default_keep(layers: Sequence[Layer], frames: int, words: int, steps: int, warn: bool = True) -> Keep:
    """Choose what to store of the attention maps: of a video, the maps of all layers may not fit into memory.

    Args:
        layers: The traced layers.
        frames: Number of latent frames; 1 for an image, which keeps each layer.
        words: Number of words.
        steps: Number of denoising steps.
        warn: Whether to warn where the choice is not "layers".

    Returns:
        "layers", or "words" where these would take more than `MAX_MAPS`.
    """
    nbytes = maps_nbytes(layers, frames, words, steps)
    if frames == 1 or nbytes <= MAX_MAPS:
        return "layers"
    if warn:
        warnings.warn(
            f'the mean over the layers is stored (keep="words"): the maps of {len(layers)} layers over {steps} steps '
            f'and {frames} latent frames would take {nbytes / 2**30:.1f} GiB; keep="layers" stores them all the same',
            stacklevel=2,
        )
    return "words"
