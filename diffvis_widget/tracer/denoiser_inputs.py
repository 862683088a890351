"""What is kept of a traced pipeline call so that its denoiser can be asked again: see guided_denoiser.py.

The tracer tells a LiveCall of every evaluation and every step, and gives it to the traces of that call. It holds what
the pipeline held anyway (the text embeddings, by reference) and never the latents' history or the model itself: when
the pipeline is gone, so is the denoiser.
"""

from __future__ import annotations

import inspect
import weakref
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from diffvis_widget.tracer.families import Family
from diffvis_widget.traces import Trace

from .attention import Branch
from .noise_levels import Level

# The outputs of other networks that looked at the latents: a function of the latents cannot take them as they were.
_FROM_LATENTS = (
    "down_block_additional_residuals",
    "mid_block_additional_residual",
    "down_intrablock_additional_residuals",
    "block_controlnet_hidden_states",
    "controlnet_block_samples",
    "controlnet_single_block_samples",
)


@dataclass(frozen=True)
class Evaluation:
    """One call of the denoiser.

    latents: name of the argument that carried the latents. arguments: all others, by name. batch: rows of the call.
    branches: which rows belong to the prompt and to the negative prompt; rows of neither are not asked again.
    shape: of the latents given (of one row, where the model takes a list of them). extra: what was joined to them along
    their second axis (an inpainting model's mask and picture, the picture that an editing model looks at), or None.
    """

    latents: str
    arguments: Mapping[str, Any]
    batch: int
    branches: Mapping[Branch, slice]
    shape: tuple[int, ...]
    listed: bool
    dtype: torch.dtype
    device: torch.device
    autocast: torch.dtype | None
    extra: Tensor | None = None


@dataclass(frozen=True)
class LiveStep:
    """One step: what the denoiser was asked, how its answers were combined, and the outcome.

    output: (images, C, h, w) on the CPU, as the scheduler was given it; read it only when the trace has the step.
    """

    evaluations: tuple[Evaluation, ...]
    guidance_scale: float | None
    guidance_rescale: float
    output: Tensor


class LiveCall:
    """One pipeline call. levels: of its steps so far."""

    def __init__(self, family: Family) -> None:
        self.family = family
        self.steps: list[LiveStep] = []
        self.levels: list[Level] = []
        self._denoiser: weakref.ref[nn.Module] | None = None
        self._pending: list[tuple[Evaluation, Any]] = []

    @property
    def denoiser(self) -> nn.Module | None:
        """The denoiser, or None where it was garbage collected."""
        return None if self._denoiser is None else self._denoiser()

    def evaluated(
        self,
        module: nn.Module,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        batch: int,
        branches: Mapping[Branch, slice],
    ) -> None:
        """The denoiser is being called with so many rows, of which `branches` carry the prompts."""
        bound = inspect.signature(type(module).forward).bind(module, *args, **kwargs).arguments
        given = {**bound, **bound.get("kwargs", {})}
        names = [name for name in given if name not in ("self", "kwargs", "return_dict")]
        latents: Any = given[names[0]]
        first: Tensor = latents if isinstance(latents, Tensor) else latents[0]
        kind = first.device.type
        evaluation = Evaluation(
            latents=names[0],
            # named, but not held: those of other networks are large and cannot be used
            arguments={
                name: None if name in _FROM_LATENTS else given[name] for name in names[1:] if given[name] is not None
            },
            batch=batch,
            branches=dict(branches),
            shape=tuple(first.shape),
            listed=not isinstance(latents, Tensor),
            dtype=first.dtype,
            device=first.device,
            autocast=torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else None,
        )
        self._denoiser = weakref.ref(module)
        self._pending.append((evaluation, latents))

    def stepped(self, pipe: Any, sample: Tensor, output: Tensor) -> None:
        """The scheduler takes a step. sample: (images, C, h, w), the latents; output: see `LiveStep.output`."""
        pending, self._pending = self._pending, []
        scale, rescale = (getattr(pipe, name, None) for name in ("guidance_scale", "guidance_rescale"))
        self.steps.append(
            LiveStep(
                evaluations=tuple(self._with_extra(evaluation, latents, sample) for evaluation, latents in pending),
                guidance_scale=float(scale) if isinstance(scale, int | float) else None,
                guidance_rescale=float(rescale) if isinstance(rescale, int | float) else 0.0,
                output=output,
            )
        )

    def _with_extra(self, evaluation: Evaluation, latents: Any, sample: Tensor) -> Evaluation:
        own = sample.shape[1]
        if len(evaluation.shape) == 3 and self.family.packing is not None:
            own = sample.shape[2] * sample.shape[3] // self.family.packing**2
        if evaluation.listed or evaluation.shape[1] <= own:
            return evaluation
        return replace(evaluation, extra=latents[:, own:].detach().clone())


def from_other_networks(evaluation: Evaluation) -> list[str]:
    """Names of the arguments that another network (a ControlNet, say) had computed from the latents."""
    return [name for name in evaluation.arguments if name in _FROM_LATENTS]


_calls: weakref.WeakKeyDictionary[Trace, tuple[LiveCall, int]] = weakref.WeakKeyDictionary()


def set_live_call(trace: Trace, call: LiveCall, image: int) -> None:
    """Tie a trace to the call that it records. image: which of the call's images it is."""
    _calls[trace] = call, image


def find_live_call(trace: Trace) -> tuple[LiveCall, int]:
    """The call that a trace records, and which of its images. Raises ValueError where there is none."""
    found = _calls.get(trace)
    if found is None:
        raise ValueError(
            "this trace has no live pipeline: it was opened from a file, or copied. What asks the model again needs a "
            "trace made in this process: run it with dv.trace(pipe, prompt, seed=...), the seed is in trace.meta"
        )
    return found
