"""Latents as images and as sequences: transformers keep one row per square of latent pixels."""

from __future__ import annotations

from torch import Tensor

from diffvis_widget.traces.types import Size


def pack(latents: Tensor, side: int) -> Tensor:
    """Lay out latents as a sequence of squares; the inverse of `unpack`.

    Args:
        latents: (n, C, h, w); h and w are multiples of `side`.
        side: Latent pixels along one side of a square.

    Returns:
        (n, h * w / side**2, C * side**2), squares in row-major order.
    """
    count, channels, height, width = latents.shape
    squares = latents.reshape(count, channels, height // side, side, width // side, side)
    return squares.permute(0, 2, 4, 1, 3, 5).reshape(count, -1, channels * side * side)


def unpack(latents: Tensor, size: Size, side: int) -> Tensor:
    """Lay out a sequence of squares as latents; the inverse of `pack`.

    Args:
        latents: (n, positions, C * side**2).
        size: (h, w) in latent pixels, with h * w = positions * side**2.
        side: Latent pixels along one side of a square.

    Returns:
        (n, C, h, w).
    """
    height, width = size[0] // side, size[1] // side
    squares = latents.unflatten(1, (height, width)).unflatten(3, (-1, side, side))
    return squares.permute(0, 3, 1, 4, 2, 5).reshape(len(latents), -1, height * side, width * side)


def unpack_video(latents: Tensor, size: Size, side: int) -> Tensor:
    """Lay out a sequence of squares of several frames, frame by frame, as latents.

    Args:
        latents: (n, positions, C * side**2).
        size: (h, w) in latent pixels; the positions fill a whole number of frames.
        side: Latent pixels along one side of a square.

    Returns:
        (n, C, frames, h, w).
    """
    height, width = size
    per_frame = height * width // side**2
    frames = latents.unflatten(1, (-1, per_frame))
    unpacked = unpack(frames.flatten(0, 1), size, side)
    return unpacked.unflatten(0, frames.shape[:2]).transpose(1, 2)
