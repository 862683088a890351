"""Where text and image tokens lie in the keys of joint attention.

Read from the sources of diffusers 0.42; `tests/tracer/families/test_families.py` verifies each by perturbing the text.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

Spans = tuple[slice, slice]
"""(text tokens, image tokens) in a sequence."""

SequenceLayout = Callable[[int, int, int], Spans | None]
"""(number of keys, of text tokens, of image tokens) -> their spans; None where the numbers do not fit."""

RowLayouts = Callable[[Mapping[str, Any]], Sequence[SequenceLayout]]
"""Arguments of the denoiser by name -> the layout of each row of the batch."""


def text_first(keys: int, text: int, image: int) -> Spans | None:
    """Text, image, then anything else, such as the reference image of an editing model.

    Args:
        keys: Length of the sequence.
        text: Number of text tokens.
        image: Number of image tokens.

    Returns:
        The spans, or None where the sequence is too short.
    """
    return (slice(0, text), slice(text, text + image)) if text + image <= keys else None


def image_then_text(keys: int, text: int, image: int) -> Spans | None:
    """Image, the text right behind it, and padding at the end.

    Args:
        keys: Length of the sequence.
        text: Number of text tokens.
        image: Number of image tokens.

    Returns:
        The spans, or None where the sequence is too short.
    """
    return (slice(image, image + text), slice(0, image)) if text + image <= keys else None


def image_first(keys: int, text: int, image: int) -> Spans | None:
    """Image, padding where the model needs a fixed length, and the text at the end.

    Args:
        keys: Length of the sequence.
        text: Number of text tokens.
        image: Number of image tokens.

    Returns:
        The spans, or None where the sequence is too short.
    """
    return (slice(keys - text, keys), slice(0, image)) if text + image <= keys else None


def image_then_rest(keys: int, text: int, image: int) -> Spans | None:
    """Image, then the text, which may be shorter in the sequence than in the arguments of the denoiser.

    Args:
        keys: Length of the sequence.
        text: Number of text tokens.
        image: Number of image tokens.

    Returns:
        The spans, or None where the sequence is too short.
    """
    return (slice(image, keys), slice(0, image)) if image <= keys else None


def text_after(layout: SequenceLayout, tokens: int) -> SequenceLayout:
    """Other tokens stand where a layout has the beginning of the text.

    Args:
        layout: A layout without them.
        tokens: How many.

    Returns:
        The layout with them.
    """

    def moved(keys: int, text: int, image: int) -> Spans | None:
        spans = layout(keys, text, image)
        return None if spans is None else (slice(spans[0].start + tokens, spans[0].stop), spans[1])

    return moved
