"""Processors that make the inputs of a denoiser of the prompts, in pipelines without `encode_prompt`."""

from __future__ import annotations

import inspect
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
        argument: Its argument that holds the prompts.
        read: (arguments, result, calls of tokenizers) of its call, the prompts as "prompt" -> the same as an
            `encode_prompt` of the pipeline would have them: "negative_prompt" among the arguments, what the denoiser is
            given of both in the result, and one text for each prompt.
        fixed_prompt: Arguments of a call -> why its prompt cannot be switched, or an empty text.
        mixes_rows: Whether what the denoiser makes of a row of its batch depends on the prompt of another one.
    """

    attribute: str
    argument: str
    read: Callable[[Mapping[str, Any], Any, Sequence[TokenizerCall]], Encoding]
    fixed_prompt: Callable[[Mapping[str, Any]], str]
    mixes_rows: bool = False

    def as_encode_prompt(self, call: Callable[..., Any]) -> Callable[..., Any]:
        """Name the prompts of a call as `encode_prompt` does.

        Args:
            call: Calls the processor.

        Returns:
            The same function, whose prompts are the argument "prompt".
        """
        signature = inspect.signature(call)
        parameters = [
            parameter.replace(name="prompt") if parameter.name == self.argument else parameter
            for parameter in signature.parameters.values()
        ]

        def encode_prompt(*args: Any, **kwargs: Any) -> Any:
            named = {self.argument if name == "prompt" else name: value for name, value in kwargs.items()}
            return call(*args, **named)

        encode_prompt.__signature__ = signature.replace(parameters=parameters)  # pyright: ignore[reportFunctionMemberAccess]
        return encode_prompt
