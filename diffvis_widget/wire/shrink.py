"""A finished run within one megabyte: what a saved notebook carries, so that it still scrubs without a kernel."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from . import images
from .messages import View
from .packed_run import Message, pack

LIMIT = 1_000_000


def snapshot(messages: Sequence[Message], limit: int = LIMIT) -> bytes:
    """The packed form of a run in less than ``limit`` bytes. Returns no bytes at all if it cannot be made so small."""
    found = fit(messages, lambda tried: len(pack(tried)) < limit)
    return b"" if found is None else pack(found)


def fit(messages: Sequence[Message], small: Callable[[Sequence[Message]], bool]) -> list[Message] | None:
    """The messages, made smaller until they are ``small``, giving up the least useful first; None if they never are.

    In order: the noisy latents, the guidance view, the full-size final picture, every second row and column of the
    maps, the size of the pictures.
    """
    return next((tried for tried in _ladder(list(messages)) if small(tried)), None)


def smallest(messages: Sequence[Message]) -> list[Message]:
    """The messages with all given up that `fit` may give up."""
    return list(_ladder(list(messages)))[-1]


def _ladder(messages: list[Message]) -> Iterator[list[Message]]:
    rungs: list[Callable[[Message], Message]] = [
        lambda message: message,
        lambda message: _without(message, "latents"),
        lambda message: _without(message, "guidance"),
        _without_final_picture,
        _with_half_maps,
        lambda message: _with_smaller_pictures(message, 256, 75),
        _with_half_maps,
        lambda message: _with_smaller_pictures(message, 128, 60),
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
    at = views.index(view)
    return Message(content, (*message.buffers[:at], *message.buffers[at + 1 :]))


def _without_final_picture(message: Message) -> Message:
    return Message(message.content) if message.content["type"] == "end" else message


def _with_half_maps(message: Message) -> Message:
    if message.content["type"] != "step":
        return message
    maps = message.content["maps"]
    words, height, width = maps["shape"]
    values = np.frombuffer(message.buffers[-1], dtype=np.uint8).reshape(words, height, width)
    if min(height, width) < 2:
        return message
    even = values[:, : height // 2 * 2, : width // 2 * 2]
    half = even.reshape(words, height // 2, 2, width // 2, 2).mean(axis=(2, 4)).round().astype(np.uint8)
    content = {**message.content, "maps": {**maps, "shape": list(half.shape)}}
    return Message(content, (*message.buffers[:-1], half.tobytes()))


def _with_smaller_pictures(message: Message, largest: int, quality: int) -> Message:
    if message.content["type"] != "step" or "prediction" not in message.content["views"]:
        return message
    at = message.content["views"].index("prediction")
    smaller = images.shrunk(message.buffers[at], largest, quality)
    return Message(message.content, (*message.buffers[:at], smaller, *message.buffers[at + 1 :]))
