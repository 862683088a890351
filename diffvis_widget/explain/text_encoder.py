"""The text side of relevance: the prompt's embeddings with their graph, and R_qq computed from it."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import Any, Self

import torch
from torch import Tensor, nn

from diffvis_widget.tracer import Family

from .attention_gradients import RecordedAttention, recording_attention
from .relevance_rules import self_attention


class TextEncoderPass:
    """Encodes a prompt with gradients, and computes the relevance of text tokens for one another.

    A context manager: inside the with block the encoders use the fused attention kernel.

    Args:
        pipe: The pipeline.
        family: Its model family.
        prompt: The prompt.
        arguments: Arguments of the pipeline call; those that `encode_prompt` takes are passed on.

    Raises:
        ValueError: If the pipeline has no text encoder, or one whose attention cannot be observed, or it has no
            `encode_prompt`.
    """

    def __init__(self, pipe: Any, family: Family, prompt: str, arguments: Mapping[str, Any]) -> None:
        self._pipe, self._prompt = pipe, prompt
        parts = {name: getattr(pipe, name, None) for name in family.text_encoders}
        self._encoders = {name: module for name, module in parts.items() if isinstance(module, nn.Module)}
        if not self._encoders:
            raise ValueError(
                f"relevance needs a text encoder, and {type(pipe).__name__} has none: load the pipeline with one"
            )
        if not hasattr(pipe, "encode_prompt"):
            raise ValueError(
                f"relevance follows encode_prompt, which {type(pipe).__name__} does not have: use the standard "
                "pipeline with the same components, such as StableDiffusionXLPipeline(**pipe.components)"
            )
        takes = inspect.signature(pipe.encode_prompt).parameters
        self._arguments = {name: value for name, value in arguments.items() if name in takes}

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            for encoder in self._encoders.values():
                used = getattr(encoder.config, "_attn_implementation", "sdpa")
                if used != "sdpa":
                    switch: Any = encoder
                    stack.callback(switch.set_attn_implementation, used)
                    switch.set_attn_implementation("sdpa")
            stack.enter_context(torch.inference_mode(False))
            stack.enter_context(torch.enable_grad())
            self._seen: list[RecordedAttention] = stack.enter_context(recording_attention(self._encoders))
            overrides = {"num_images_per_prompt": 1, "do_classifier_free_guidance": False, "device": None}
            result = self._pipe.encode_prompt(prompt=self._prompt, **{**self._arguments, **overrides})
        blind = [name for name in self._encoders if not any(record.layer == name for record in self._seen)]
        if blind:
            raise ValueError(
                f"relevance: {blind[0]} computes its attention in a way that cannot be followed to its words; use heat "
                "maps, which do not need that"
            )
        # SDXL also conditions on the pooled text
        self._embeddings = [result[0], *(result[2:3] if len(result) > 2 else ())]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._seen, self._embeddings = [], []

    def put_into(self, arguments: dict[str, Any], name: str) -> list[Tensor]:
        """Replace the prompt embeddings in the denoiser's arguments by leaves of a new graph.

        Args:
            arguments: Arguments of the denoiser, changed in place.
            name: Name of the embeddings' argument.

        Returns:
            The leaves.

        Raises:
            ValueError: If the run was given other embeddings than the prompt's.
        """
        leaves = [part.detach().clone().requires_grad_() for part in self._embeddings]
        embeddings: Tensor = arguments[name]
        if embeddings.shape != leaves[0].shape or not torch.allclose(
            embeddings.float(), leaves[0].float(), atol=1e-2, rtol=1e-2
        ):
            raise ValueError(
                "encoding the prompt again gives other embeddings than the run was given: relevance cannot follow "
                "adapters or embeddings that belong to a single call"
            )
        arguments[name] = leaves[0]
        if len(leaves) > 1:
            arguments["added_cond_kwargs"] = {**arguments["added_cond_kwargs"], "text_embeds": leaves[1]}
        return leaves

    def relevance(self, slopes: Sequence[Tensor | None]) -> Tensor:
        """Compute R_qq, as the mean over the encoders where several share the positions.

        Args:
            slopes: dy / d leaves; None for a leaf that y does not depend on.

        Returns:
            float32 (L, L).
        """
        pairs = [(part, slope) for part, slope in zip(self._embeddings, slopes, strict=True) if slope is not None]
        gradients = torch.autograd.grad(
            [part for part, _ in pairs],
            [record.output for record in self._seen],
            [slope for _, slope in pairs],
            retain_graph=True,
            allow_unused=True,
        )
        relevances: list[Tensor] = []
        for name in self._encoders:
            cams = [
                record.cam(slope) for record, slope in zip(self._seen, gradients, strict=True) if record.layer == name
            ]
            relevances.append(self_attention(cams))
        return torch.stack(relevances).mean(dim=0)
