"""Shrinks the messages of a run, so that a saved notebook, a page or a compact file stays small."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from . import images
from .messages import View
from .packed_run import Message, pack
from .video_messages import frames_in, image_buffers

LIMIT = 1_000_000


def snapshot(messages: Sequence[Message], limit: int = LIMIT) -> bytes:
    """Packs a run into less than a number of bytes.

    Args:
        messages: the messages of the run.
        limit: the number of bytes.

    Returns:
        The packed run, shrunk as far as needed; no bytes if it cannot be shrunk so far.
    """
    shrunk = fit(messages, lambda smaller: len(pack(smaller)) < limit)
    return b"" if shrunk is None else pack(shrunk)


def fit(messages: Sequence[Message], is_small: Callable[[Sequence[Message]], bool]) -> list[Message] | None:
    """Shrinks messages until they are small enough, dropping the least useful first.

    In order: the noisy latents, the guidance view, the full-size final image, every second row and column of the maps,
    the size of the images.

    Args:
        messages: the messages of the run.
        is_small: returns whether messages are small enough.

    Returns:
        The messages; None if they never are.
    """
    return next((smaller for smaller in _ladder(list(messages)) if is_small(smaller)), None)


def smallest(messages: Sequence[Message]) -> list[Message]:
    """Shrinks messages as far as `fit` may.

    Args:
        messages: the messages of the run.

    Returns:
        The messages.
    """
    return list(_ladder(list(messages)))[-1]


def _ladder(messages: list[Message]) -> Iterator[list[Message]]:
    rungs: list[Callable[[Message], Message]] = [
        lambda message: message,
        lambda message: _without(message, "latents"),
        lambda message: _without(message, "guidance"),
        _without_final_image,
        _with_half_maps,
        lambda message: _with_smaller_images(message, 256, 75),
        _with_half_maps,
        lambda message: _with_smaller_images(message, 128, 60),
        _with_half_maps,
        lambda message: _with_smaller_images(message, 96, 50),
    ]
    for rung in rungs:
        messages = [rung(message) for message in messages]
        yield messages


def _without(message: Message, view: View) -> Message:
    views: list[View] = message.content.get("views", [])
    if view not in views:
        return message
    content = {**message.content, "views": [name for name in views if name != view]}
    if message.content["type"] == "run":
        return Message(content, message.buffers)
    place = image_buffers(message.content, view)
    return Message(content, (*message.buffers[: place.start], *message.buffers[place.stop :]))


def _without_final_image(message: Message) -> Message:
    """A video stays, behind an empty image: it has fewer pixels a frame, and it is what the run made."""
    if message.content["type"] != "end":
        return message
    return Message(message.content, (b"", *message.buffers[1:]) if len(message.buffers) > 1 else ())


def _with_half_maps(message: Message) -> Message:
    if message.content["type"] != "step":
        return message
    content, buffers = dict(message.content), list(message.buffers)
    frames = frames_in(content)
    for index, name in enumerate(("maps", "refined"), start=frames * len(content["views"])):
        if name not in content:
            continue
        words, height, width = content[name]["shape"]
        if min(height, width) < 2:
            continue
        values = np.frombuffer(buffers[index], dtype=np.uint8).reshape(frames * words, height, width)
        even = values[:, : height // 2 * 2, : width // 2 * 2]
        half = even.reshape(frames * words, height // 2, 2, width // 2, 2).mean(axis=(2, 4)).round().astype(np.uint8)
        content[name] = {**content[name], "shape": [words, height // 2, width // 2]}
        buffers[index] = half.tobytes()
    return Message(content, tuple(buffers))


def _with_smaller_images(message: Message, largest: int, quality: int) -> Message:
    if message.content["type"] == "end" and len(message.buffers) > 1:
        frames = (images.shrunk(image, largest, quality) for image in message.buffers[1:])
        return Message(message.content, (message.buffers[0], *frames))
    if message.content["type"] != "step" or "prediction" not in message.content["views"]:
        return message
    place = image_buffers(message.content, "prediction")
    smaller = [images.shrunk(image, largest, quality) for image in message.buffers[place]]
    return Message(message.content, (*message.buffers[: place.start], *smaller, *message.buffers[place.stop :]))
