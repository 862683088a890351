"""Refuses calls that make videos of families whose videos are not traced, before they run."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor

from diffvis_widget.arguments import whole_number
from diffvis_widget.tracer.families import Family, find_family, registered_families

from .fault_guard import CannotRecordError, FaultGuard
from .video_reasons import reason_for, unfollowed_mode

FRAME_ARGUMENTS = ("num_frames", "video_length", "frames")


class VideoError(CannotRecordError, ValueError):
    """A call would make a video that cannot be traced, or be intervened on."""


def check_frames(pipe: Any, family: Family | None, arguments: Mapping[str, Any], modifies: bool = False) -> None:
    """Refuse the arguments of a call that makes several frames, unless videos of the family are traced.

    Args:
        pipe: The pipeline.
        family: The family of its denoiser; None: it is found where it matters.
        arguments: All arguments of its `__call__` or of its `prepare_latents` by name, with defaults.
        modifies: Whether the call is to be changed, which is not possible for this family's videos.

    Raises:
        VideoError: An argument asks for more than one frame; the message says which value makes an image. Or the
            pipeline is set to a mode that cannot be followed.
    """
    if reason := unfollowed_mode(pipe):
        raise VideoError(f"{reason}, to trace it or to intervene on it")
    for name in FRAME_ARGUMENTS:
        number = whole_number(arguments.get(name))
        if number is None or number <= 1:
            continue
        makes = f"{type(pipe).__name__} makes a video of {number} frames"
        image = f"pass {name}=1 for an image, where the model makes any"
        if modifies:
            raise VideoError(f"{makes}, and interventions and explanations work for images: {image}")
        family = family or find_family(pipe)[0]
        if not family.traces_videos:
            if reason := reason_for(type(pipe).__name__):
                raise VideoError(f"{makes}, which cannot be traced: {reason}; {image}")
            traced = " and ".join(other.name for other in registered_families() if other.traces_videos)
            raise VideoError(f"{makes}, and videos are traced for {traced}, not for this model: {image}")


def check_latent_frames(latents: Tensor) -> None:
    """Refuse latents of several frames.

    Args:
        latents: From `prepare_latents`.

    Raises:
        VideoError: They are (n, C, frames, h, w) with more than one frame.
    """
    if latents.ndim == 5 and latents.shape[2] != 1:
        raise VideoError(
            f"these latents of shape {tuple(latents.shape)} are those of a video, and videos of this model are not "
            "traced: only images are, and videos of one latent frame"
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


def frames_per_latent(pipe: Any, family: Family) -> int | None:
    """How many frames of the video each latent frame after the first stands for.

    Args:
        pipe: The pipeline.
        family: The family of its denoiser.

    Returns:
        The temporal compression of its autoencoder; None where nothing states it.
    """
    if family.frames_in_batch:
        return 1
    for name in ("vae_scale_factor_temporal", "vae_temporal_compression_ratio"):
        if (factor := whole_number(getattr(pipe, name, None))) is not None:
            return factor
    return whole_number(getattr(getattr(pipe, "vae", None), "temporal_compression_ratio", None))
