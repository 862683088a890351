"""What the messages of a video have beside those of an image: an image and a map of each latent frame, and the video.

A step message of F latent frames states ``frames``. Its buffers hold F images for each view, then the maps frame by
frame, (F, words, h, w); each word has one scale for all frames. A frame message has F buffers. The end message has all
frames of the final video after the final image.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffvis_widget.traces import Trace
from diffvis_widget.traces.types import Images

from . import images
from .messages import View
from .packed_run import Json, Message, dequantise, quantise

VIDEO_LARGEST = 384  # longest side of a frame in messages


def frames_in(content: Json) -> int:
    """The number of latent frames of a step message.

    Args:
        content: of the message.

    Returns:
        1 for an image.
    """
    frames = content.get("frames", 1)
    return frames if isinstance(frames, int) and frames >= 1 else 1


def image_buffers(content: Json, view: View) -> slice:
    """Where the images of a view lie in the buffers of a step message.

    Args:
        content: of the message.
        view: one of its views.

    Returns:
        As many buffers as there are latent frames.
    """
    frames = frames_in(content)
    start = frames * int(content["views"].index(view))
    return slice(start, start + frames)


def shown_frames(trace: Trace, video: Images) -> Images:
    """Chooses the image of each latent frame: the middle one of the frames that it stands for.

    Args:
        trace: a trace of a video.
        video: uint8 (frames, H, W, 3), decoded from its latents.

    Returns:
        uint8 (F, H, W, 3); `video` itself where it already has one image for each latent frame.
    """
    if len(video) == trace.frame_count:
        return video
    ranges = [trace.output_frames(frame) for frame in range(trace.frame_count)]
    return video[[min(shown[len(shown) // 2], len(video) - 1) for shown in ranges]]


def webps(image: Images, largest: int, quality: int = 85) -> tuple[bytes, ...]:
    """Encodes an image, or each frame of a video.

    Args:
        image: uint8 (H, W, 3) or (frames, H, W, 3).
        largest: pixels of the longest side.
        quality: 0 to 100.

    Returns:
        WebP files, one for an image.
    """
    if image.ndim == 3:
        return (images.webp(image, largest, quality),)
    return tuple(images.webp(frame, min(largest, VIDEO_LARGEST), quality) for frame in image)


def with_frames(message: Message, maps: NDArray[np.float32], encoded: dict[View, tuple[bytes, ...]]) -> Message:
    """Makes a step message one of a video.

    Args:
        message: of the same step, with its views and without images and maps.
        maps: float32 (words, F, h, w).
        encoded: F images by view.

    Returns:
        The message.
    """
    words, frames, height, width = maps.shape
    quantised, scales = quantise(maps.reshape(words, frames * height, width))
    data = quantised.reshape(words, frames, height, width).transpose(1, 0, 2, 3).tobytes()
    content = {
        **message.content,
        "frames": frames,
        "views": list(encoded),
        "maps": {"shape": [words, height, width], "scales": scales},
    }
    return Message(content, (*(image for view in encoded.values() for image in view), data))


def read_maps(
    data: bytes, frames: int, shape: Sequence[int], scales: Sequence[Sequence[float] | None]
) -> NDArray[np.float32]:
    """Reads the maps of a step message of a video.

    Args:
        data: its last buffer.
        frames: number of latent frames.
        shape: (words, h, w).
        scales: (lo, hi) of each word, None for a word without a map.

    Returns:
        float32 (words, F, h, w).

    Raises:
        ValueError: the parts do not fit together.
    """
    words, height, width = shape
    if len(data) != frames * words * height * width:
        raise ValueError(f"maps of {frames} frames of {tuple(shape)} do not fit {len(data)} bytes")
    ordered = np.frombuffer(data, np.uint8).reshape(frames, words, height, width).transpose(1, 0, 2, 3)
    flat = dequantise(ordered.tobytes(), (words, frames * height, width), scales)
    return flat.reshape(words, frames, height, width)


def with_video(message: Message, trace: Trace) -> Message:
    """Adds the frames of the final video to an end message that has the final image.

    Args:
        message: the end message.
        trace: the trace of the run.

    Returns:
        The message; the same one for an image.
    """
    if not message.buffers or trace.frame_count == 1 or (video := trace.video) is None:
        return message
    return Message(message.content, (*message.buffers, *webps(video, VIDEO_LARGEST, 80)))


def frames_content(trace: Trace) -> dict[str, Any]:
    """Describes the frames of a video in the run message.

    Args:
        trace: the trace of the run.

    Returns:
        Number of latent frames and of video frames that each stands for; nothing for an image.
    """
    if trace.frame_count == 1:
        return {}
    return {"frames": trace.frame_count, "frames_per_latent": trace.meta.get("frames_per_latent")}
