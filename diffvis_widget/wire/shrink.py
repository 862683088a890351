"""Shrinks the messages of a run, so that a saved notebook, a page or a compact file stays small."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from . import images
from .messages import View
from .packed_run import Message, pack

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
        is_small: tells whether messages are small enough.

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
    index = views.index(view)
    return Message(content, (*message.buffers[:index], *message.buffers[index + 1 :]))


def _without_final_image(message: Message) -> Message:
    return Message(message.content) if message.content["type"] == "end" else message


def _with_half_maps(message: Message) -> Message:
    if message.content["type"] != "step":
        return message
    content, buffers = dict(message.content), list(message.buffers)
    for index, name in enumerate(("maps", "refined"), start=len(content["views"])):
        if name not in content:
            continue
        words, height, width = content[name]["shape"]
        if min(height, width) < 2:
            continue
        values = np.frombuffer(buffers[index], dtype=np.uint8).reshape(words, height, width)
        even = values[:, : height // 2 * 2, : width // 2 * 2]
        half = even.reshape(words, height // 2, 2, width // 2, 2).mean(axis=(2, 4)).round().astype(np.uint8)
        content[name] = {**content[name], "shape": list(half.shape)}
        buffers[index] = half.tobytes()
    return Message(content, tuple(buffers))


def _with_smaller_images(message: Message, largest: int, quality: int) -> Message:
    if message.content["type"] != "step" or "prediction" not in message.content["views"]:
        return message
    index = message.content["views"].index("prediction")
    smaller = images.shrunk(message.buffers[index], largest, quality)
    return Message(message.content, (*message.buffers[:index], smaller, *message.buffers[index + 1 :]))
