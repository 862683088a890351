"""What happens in a pipeline call, as callbacks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from .noise_sources import NoiseSource
from .prompt_encoding import EncodeCall
from .scheduler_step import StepArguments

DenoiserArguments = tuple[tuple[Any, ...], dict[str, Any]]
"""Positional and keyword arguments of a call of the denoiser."""


class CallListener:
    """The callbacks of `PipelineCalls`, in the order of a pipeline call; all of them do nothing by default."""

    def check_scheduler(self, scheduler: Any) -> None:
        """Called before the calls of another scheduler are followed.

        Args:
            scheduler: The pipeline's scheduler, which may change from one call to the next.

        Raises:
            ValueError: The scheduler is not supported.
        """

    def prompt_encoded(self, call: EncodeCall, encode_prompt: Callable[..., Any], args: Any, kwargs: Any) -> None:
        """Called after each call of `encode_prompt`.

        Args:
            call: The call.
            encode_prompt: The pipeline's own method.
            args: Positional arguments of the call.
            kwargs: Keyword arguments of the call.
        """

    def latents_prepared(self, noise: list[NoiseSource | None]) -> None:
        """Called after `prepare_latents`.

        Args:
            noise: The generators of the call, as they were before the pipeline drew from them.
        """

    def timesteps_set(self) -> None:
        """Called after `scheduler.set_timesteps`, when a call begins."""

    def evaluation_begins(self, text: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> DenoiserArguments | None:
        """Called before each evaluation of a pipeline call.

        Args:
            text: The text embeddings that the denoiser receives, all rows of its batch.
            args: Positional arguments of the denoiser.
            kwargs: Keyword arguments of the denoiser.

        Returns:
            Other arguments for the denoiser, or None to leave them.
        """

    def evaluation_ends(self, output: Any) -> Any:
        """Called after each evaluation.

        Args:
            output: Of the denoiser; None where it raised.

        Returns:
            Another output of the denoiser, or None to leave it.
        """

    def step(self, make_step: Callable[[], Any], arguments: StepArguments | None) -> Any:
        """Called in place of `scheduler.step`.

        Args:
            make_step: Makes the step.
            arguments: Arguments of the step; None where they cannot be told apart.

        Returns:
            The result of `make_step`.
        """
        return make_step()

    def decoded(self, latents: Tensor, result: Any) -> None:
        """Called after `vae.decode` inside the pipeline's `__call__`.

        Args:
            latents: As the VAE received them.
            result: As the VAE returned it.
        """

    def call_returned(self, output: Any, arguments: Mapping[str, Any]) -> None:
        """Called when the pipeline's `__call__` has returned, before `call_ends`.

        Args:
            output: What it returned.
            arguments: Its arguments by name, with those of its `**kwargs` and with defaults.
        """

    def call_ends(self, error: BaseException | None = None) -> None:
        """Called when `__call__` has returned or raised; for a loop outside, when another begins or the block ends.

        Args:
            error: What `__call__` raised, or None.
        """
