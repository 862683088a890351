"""Refuses calls that make videos, before they run: a trace holds one image."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor

from diffvis_widget.arguments import whole_number

from .fault_guard import CannotRecordError, FaultGuard

FRAME_ARGUMENTS = ("num_frames", "video_length", "frames")


class VideoError(CannotRecordError, ValueError):
    """A call would make a video, which is neither traced nor intervened on."""


def check_frames(pipe: Any, arguments: Mapping[str, Any]) -> None:
    """Refuse the arguments of a call that makes several frames.

    Args:
        pipe: The pipeline.
        arguments: All arguments of its `__call__` or of its `prepare_latents` by name, with defaults.

    Raises:
        VideoError: An argument asks for more than one frame; the message says which value makes an image.
    """
    for name in FRAME_ARGUMENTS:
        number = whole_number(arguments.get(name))
        if number is not None and number > 1:
            raise VideoError(
                f"{type(pipe).__name__} makes a video of {number} frames, and videos are neither traced nor intervened "
                f"on: pass {name}=1 for an image, where the model makes any"
            )


def check_latent_frames(latents: Tensor) -> None:
    """Refuse latents of several frames.

    Args:
        latents: From `prepare_latents`.

    Raises:
        VideoError: They are (n, C, frames, h, w) with more than one frame.
    """
    if latents.ndim == 5 and latents.shape[2] != 1:
        raise VideoError(
            f"these latents of shape {tuple(latents.shape)} are those of a video, and videos are neither traced nor "
            "intervened on: only images are, and videos of one latent frame"
        )


@contextlib.contextmanager
def refusing_videos(guard: FaultGuard | None) -> Iterator[None]:
    """Let a refused video end the call, which has not begun.

    Args:
        guard: The guard of the hooks; None where errors end the call anyway.

    Yields:
        None.
    """
    try:
        yield
    except VideoError as error:
        if guard is not None:
            guard.let_pass(error)
        raise
