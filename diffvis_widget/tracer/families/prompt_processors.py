"""Processors that make the inputs of a denoiser of the prompts, in pipelines without `encode_prompt`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .token_streams import TokenizerCall

Encoding = tuple[Mapping[str, Any], Any, list[TokenizerCall]]
"""(arguments, result, calls of tokenizers) of a call, as those of `encode_prompt`."""


@dataclass(frozen=True)
class PromptProcessor:
    """How calls of a processor are read.

    Attributes:
        attribute: Attribute of the pipeline that holds the processor, which is called with the prompts.
        read: (arguments, result, calls of tokenizers) of its call -> the same as an `encode_prompt` of the pipeline
            would have them: "prompt" and "negative_prompt" among the arguments, what the denoiser is given of both in
            the result, and one text for each prompt.
    """

    attribute: str
    read: Callable[[Mapping[str, Any], Any, Sequence[TokenizerCall]], Encoding]
