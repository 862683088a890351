"""Reads a call of diffusers' ModularPipeline, which has neither `encode_prompt` nor `prepare_latents`.

Its blocks pass one `PipelineState` on, which holds the prompts, their embeddings and the latents by name. The state is
taken when the outermost block is called, and read when the denoiser is evaluated for the first time.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from diffvis_widget._compat.diffusers_blocks import give_own_blocks, own_blocks
from diffvis_widget.call_defaults import is_modular
from diffvis_widget.tracer.families import Family
from diffvis_widget.tracer.families.token_streams import TokenizerCall

from .prompt_encoding import EncodeCall

_SIZES = ("height", "width")


class ModularCall:
    """One call of a modular pipeline.

    Args:
        pipe: The pipeline.
        family: The family of its denoiser.
        state: The `PipelineState` of the call, which its blocks fill.

    Attributes:
        inputs: The arguments of the call by name, with the defaults of the blocks.
        tokenizer_calls: The calls of tokenizers so far.
    """

    inputs: dict[str, Any]
    tokenizer_calls: list[TokenizerCall]

    def __init__(self, pipe: Any, family: Family, state: Any) -> None:
        self.inputs = dict(state.values)
        # blocks without a decoder end with the latents
        self.inputs.setdefault("output_type", "latent")
        self.tokenizer_calls = []
        self._pipe = pipe
        self._family = family
        self._state = state

    @property
    def planned_steps(self) -> int | None:
        """Number of denoising steps that the call plans; None before it has timesteps."""
        timesteps = self._state.get("timesteps")
        return None if timesteps is None else len(timesteps)

    @property
    def latents(self) -> Any:
        """The prepared latents as the loop keeps them; None before they are prepared."""
        return self._state.get("latents")

    @property
    def prepared(self) -> Any:
        """What the standard pipeline's `prepare_latents` would return: latents, and a mask where frames are given."""
        mask = self._state.get("conditioning_mask")
        return self.latents if mask is None else (self.latents, mask)

    @property
    def returned(self) -> Any:
        """What the standard pipeline would return: images or videos, or the latents where none are decoded."""
        shown = (self._state.get(name) for name in ("images", "videos"))
        return next((value for value in shown if value is not None), self.latents)

    @property
    def size(self) -> dict[str, int | None]:
        """Height and width in pixels, the pipeline's own where none were passed; None where neither is known."""
        return {name: self._state.get(name) or getattr(self._pipe, f"default_{name}", None) for name in _SIZES}

    def encode_calls(self) -> Sequence[EncodeCall]:
        """Read the prompts of the call as calls of `encode_prompt`.

        Returns:
            As the family's standard pipeline would make them; none where the state holds no embeddings.
        """
        name = "prompt_embeds" if self._family.connector is None else "connector_prompt_embeds"
        embeddings, negative = self._state.get(name), self._state.get(f"negative_{name}")
        if embeddings is None:
            return []
        # a block may have rewritten the prompt before it was encoded
        arguments = {**self.inputs, "prompt": self._state.get("prompt")}
        _, second = self._family.embedding_indices
        result = self._family.encoded(self._result(self._state, embeddings, negative))
        calls = [EncodeCall(arguments, result, self.tokenizer_calls)]
        if second is None and negative is not None:
            texts = {name: arguments.get(f"negative_{name}") for name in ("prompt", "prompt_2")}
            if texts["prompt"] is None and arguments.get("prompt") is not None:
                texts["prompt"] = ""
            is_same = texts["prompt"] == arguments.get("prompt")
            tokenized = self.tokenizer_calls if is_same else self._later_tokenizer_calls()
            calls.append(EncodeCall({**arguments, **texts}, [negative], tokenized))
        return calls

    def encode_prompt(self, prompt: Any, negative_prompt: Any = None) -> Any:
        """Encode another prompt by the blocks of the pipeline, with all other inputs of the call.

        Args:
            prompt: A text, or a list of texts.
            negative_prompt: The negative prompt; None for none.

        Returns:
            What `encode_calls` finds for the prompt, with as many rows as the call has images.

        Raises:
            ValueError: The pipeline has no block that encodes text, for it was given embeddings.
        """
        blocks = self._pipe.blocks
        encoder = blocks.sub_blocks.get("text_encoder")
        if encoder is None:
            raise ValueError(
                f"switch: the blocks of {type(self._pipe).__name__} encode no text, so no other prompt can be encoded: "
                'use a pipeline whose blocks include "text_encoder"'
            )
        state = type(self._state)()
        for parameter in encoder.inputs:
            is_text = "prompt" in parameter.name
            state.set(
                parameter.name, parameter.default if is_text else self.inputs.get(parameter.name, parameter.default)
            )
        state.set("prompt", prompt)
        state.set("negative_prompt", negative_prompt)
        with torch.no_grad():
            _, state = encoder(self._pipe, state)
        images = len(self._state.get("prompt_embeds"))
        rows = 1 if isinstance(prompt, str) else len(prompt)
        return _repeated(
            self._result(state, state.get("prompt_embeds"), state.get("negative_prompt_embeds")), images // rows
        )

    def _result(self, state: Any, embeddings: Any, negative: Any) -> list[Any]:
        """What the standard pipeline's `encode_prompt` returns first, then all else that the text encoders gave."""
        first, second = self._family.embedding_indices
        result: list[Any] = [None] * (1 + max(first, second or 0))
        result[first] = embeddings
        if second is not None:
            result[second] = negative
        others = sorted(name for name in state.values if "prompt_embeds" in name and not name.startswith("negative"))
        return result + [state.get(name) for name in others if name != "prompt_embeds"]

    def _later_tokenizer_calls(self) -> list[TokenizerCall]:
        """The tokenizer calls of the negative prompt: every tokenizer is given the prompt first."""
        firsts: dict[int, list[str]] = {}
        for call in self.tokenizer_calls:
            firsts.setdefault(id(call.tokenizer), call.texts)
        return [call for call in self.tokenizer_calls if call.texts not in firsts.values()]


def _repeated(value: Any, times: int) -> Any:
    """Rows of tensors and of lists of tensors, each as often as a prompt has images."""
    if isinstance(value, Tensor):
        return value.repeat_interleave(times, dim=0)
    if isinstance(value, list) and value and all(isinstance(row, Tensor) for row in value):
        is_rows = value[0].ndim == 2  # texts of different lengths, one tensor each
        return [row for row in value for _ in range(times)] if is_rows else [_repeated(row, times) for row in value]
    return [_repeated(row, times) for row in value] if isinstance(value, list) else value


def separate(pipe: Any) -> None:
    """Give a copy of a modular pipeline blocks and guiders of its own: a guider counts the steps of its call.

    Args:
        pipe: A copy of a pipeline; of one that is not modular nothing changes.
    """
    if not is_modular(pipe):
        return
    give_own_blocks(pipe)
    for name, part in list(vars(pipe).items()):
        if hasattr(part, "prepare_inputs_from_block_state"):
            setattr(pipe, name, copy.copy(part))


def hide_progress_bars(pipe: Any) -> None:
    """Turn off the progress bars of a pipeline's calls.

    Args:
        pipe: A private copy of the pipeline.
    """
    pipe.set_progress_bar_config(disable=True)
    # a modular pipeline hands the setting to its outermost blocks only
    blocks = list(own_blocks(pipe).values()) if is_modular(pipe) else []
    while blocks:
        block = blocks.pop()
        if hasattr(block, "set_progress_bar_config"):
            block.set_progress_bar_config(disable=True)
        blocks += block.sub_blocks.values()


def take_guidance(pipe: Any, arguments: dict[str, Any]) -> None:
    """Hand a guidance scale to the guider of a modular pipeline whose call does not take it.

    Args:
        pipe: A private copy of the pipeline.
        arguments: Of its call; the guidance scale is taken out.
    """
    guider = getattr(pipe, "guider", None)
    if is_modular(pipe) and guider is not None and "guidance_scale" not in pipe.default_call_parameters:
        scale = arguments.pop("guidance_scale", None)
        if scale is not None:
            pipe.guider = guider.new(guidance_scale=float(scale), enabled=True)


def stated_guidance(pipe: Any) -> tuple[float | None, float]:
    """Look up the guidance that a pipeline states during its call.

    Args:
        pipe: The pipeline; None for a loop outside of its `__call__`, whose guidance is not stated anywhere.

    Returns:
        The guidance scale, None where there is none, and the guidance rescale.
    """
    stating = getattr(pipe, "guider", None) or pipe
    if stating is not pipe and not stating.config.get("enabled", True):
        return None, 0.0
    scale, rescale = (getattr(stating, name, None) for name in ("guidance_scale", "guidance_rescale"))
    return (
        float(scale) if isinstance(scale, int | float) else None,
        float(rescale) if isinstance(rescale, int | float) else 0.0,
    )
