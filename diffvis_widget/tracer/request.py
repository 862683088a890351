"""What a pipeline call was asked for, read from its own `encode_prompt`: texts, negative texts, and their words."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from diffvis_widget.traces import Word

from .words import positions, second_words, words_of


@dataclass
class Request:
    """One entry per generated image. `embeddings`: (images, text positions, width) of the prompt, as encoded."""

    prompts: list[str]
    second: list[str | None]
    negatives: list[str | None]
    embeddings: Tensor
    words: list[list[Word]]

    @property
    def images(self) -> int:
        return len(self.prompts)

    def matrix(self, device: torch.device) -> Tensor:
        """float32 (images, text positions, most words of an image): 1 where a position belongs to a word."""
        most = max(len(words) for words in self.words)
        matrix = torch.zeros(self.images, self.embeddings.shape[1], most)
        for image, words in enumerate(self.words):
            for index, word in enumerate(words):
                matrix[image, list(word.tokens), index] = 1.0
        return matrix.to(device)


def read_request(pipe: Any, original: Callable[..., Any], result: Any, args: Any, kwargs: Any) -> Request:
    """Make sense of a call of `pipe.encode_prompt` and of what it returned."""
    bound = inspect.signature(original).bind(*args, **kwargs)
    bound.apply_defaults()
    asked = bound.arguments
    embeddings: Tensor = result[0]
    images = int(embeddings.shape[0])
    prompts = _per_image(asked.get("prompt"), images)
    second = _per_image(asked.get("prompt_2"), images)
    negatives = _per_image(asked.get("negative_prompt"), images)
    length = int(embeddings.shape[1])
    words = [
        positions(length) if prompt is None else _words(pipe, prompt, other, length)
        for prompt, other in zip(prompts, second, strict=True)
    ]
    return Request(
        prompts=[prompt or "" for prompt in prompts],
        second=second,
        negatives=negatives,
        embeddings=embeddings.detach(),
        words=words,
    )


def _per_image(texts: Any, images: int) -> list[str | None]:
    """One text per image: a pipeline makes its several images of one prompt next to one another."""
    if texts is None:
        return [None] * images
    listed: Sequence[str | None] = [texts] if isinstance(texts, str) else list(texts)
    repeated = max(1, images // max(1, len(listed)))
    return [text for text in listed for _ in range(repeated)][:images] or [None] * images


def _words(pipe: Any, prompt: str, second: str | None, length: int) -> list[Word]:
    first = getattr(pipe, "tokenizer", None)
    other = getattr(pipe, "tokenizer_2", None)
    tokenizer = first if first is not None else other
    words = words_of(tokenizer, _as_encoded(pipe, prompt, tokenizer), length) if tokenizer is not None else None
    if words is None:
        warnings.warn(
            f"the words of the prompt cannot be told apart for {type(pipe).__name__} (its tokenizer and its denoiser "
            "disagree on the number of text positions, or the tokenizer reports no offsets): words are positions",
            stacklevel=2,
        )
        return positions(length)
    if second is not None and second != prompt and other is not None and first is not None:
        more = words_of(other, _as_encoded(pipe, second, other), length)
        words = words if more is None else second_words(words, more)
    return words


def _as_encoded(pipe: Any, prompt: str, tokenizer: Any) -> str:
    """Textual inversion writes one learned word as several tokens before it tokenizes."""
    convert = getattr(pipe, "maybe_convert_prompt", None)
    return prompt if convert is None else convert(prompt, tokenizer)
