"""The arguments of a traced pipeline call's evaluations, so that its denoiser can be evaluated again.

A LiveCall holds what the pipeline held anyway (the text embeddings, by reference), never the latents of past steps or
the model itself: when the pipeline is garbage collected, so is the denoiser. See guided_denoiser.py.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from diffvis_widget.tracer.families import Family
from diffvis_widget.traces import Trace

from .argument_names import arguments_by_name
from .attention import Branch
from .batch_rows import pick_argument_rows
from .modular_calls import stated_guidance
from .noise_levels import NoiseLevel
from .packing import pack

EvaluatedBranch = Branch | Literal["references"]
"""A branch of a call; that of references has no prompt."""

# Outputs of other networks that depend on the latents: for other latents they would differ.
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

    Attributes:
        latents: Name of the argument that carried the latents.
        arguments: All other arguments by name.
        batch: Rows of the call.
        branches: Which rows belong to the prompt, to the negative prompt and to references without a prompt; other rows
            are not evaluated again.
        shape: Of the latents; of one row, where the model takes a list of them.
        listed: Whether the model takes a list of latents, or of lists that end with them.
        dtype: Of the latents.
        device: Of the latents.
        autocast: dtype of the autocast that was on, or None.
        extra: What was joined to the latents (an inpainting model's mask and image, the reference image of an editing
            model, a control image), or None.
        extra_axis: Along which axis: 1 (channels, or tokens of packed latents) or 2 (channels of packed latents).
        references: Of each row, the images before the latents in its list; None where there are no such lists.
    """

    latents: str
    arguments: Mapping[str, Any]
    batch: int
    branches: Mapping[EvaluatedBranch, slice]
    shape: tuple[int, ...]
    listed: bool
    dtype: torch.dtype
    device: torch.device
    autocast: torch.dtype | None
    extra: Tensor | None = None
    extra_axis: int = 1
    references: Sequence[Sequence[Tensor]] | None = None

    def picked(self, family: Family, rows: Sequence[int]) -> dict[str, Any]:
        """Select rows of the arguments, the latents excluded.

        Args:
            family: The denoiser's family.
            rows: Rows of this call.

        Returns:
            Arguments by name for a batch of `len(rows)`.
        """
        index = torch.tensor(rows, device=self.device)
        shared = {} if family.shared_arguments is None else family.shared_arguments(self.arguments, rows)
        arguments = {name: value for name, value in self.arguments.items() if name not in shared}
        picked = {name: pick_argument_rows(name, value, index, self.batch, family) for name, value in arguments.items()}
        return {**picked, **shared}

    def square_side(self, family: Family) -> int:
        """Latent pixels along one side of a square, where the latents are packed: one row for each square.

        Args:
            family: The denoiser's family.

        Returns:
            The side; 0 for latents that are not packed.
        """
        return (family.packing or 0) if len(self.shape) == 3 else 0

    def inputs(self, family: Family, latents: Tensor, rows: Sequence[int]) -> Any:
        """Put latents into the form in which the model takes them, with what was joined to them.

        Args:
            family: The denoiser's family.
            latents: (len(rows), C, h, w), as the model receives them.
            rows: The rows of this call that the latents stand for.

        Returns:
            The argument that carries the latents.
        """
        side = self.square_side(family)
        if side:
            latents = pack(latents, side)
        elif self.listed or len(self.shape) == 5:
            latents = latents[:, :, None]  # a video of one frame
            latents = latents.permute(0, 2, 3, 4, 1) if family.channels_last else latents
        if self.extra is None:
            return self.listing(latents, rows) if self.listed else latents
        extra = self.extra[list(rows)]
        if family.latent_form is not None:
            return family.latent_form.put(extra, latents)
        return torch.cat((extra, latents) if family.input_ends_with_image else (latents, extra), dim=self.extra_axis)

    def listing(self, latents: Iterable[Tensor], rows: Sequence[int]) -> list[Any]:
        """List latents as the model takes them.

        Args:
            latents: Of each row.
            rows: The rows of this call that the latents stand for.

        Returns:
            The latents, or lists that end with them.
        """
        if self.references is None:
            return list(latents)
        return [[*self.references[row], part] for row, part in zip(rows, latents, strict=True)]


@dataclass(frozen=True)
class LiveStep:
    """One denoising step: the evaluations, and how their outputs were combined.

    Attributes:
        evaluations: The calls of the denoiser.
        guidance_scale: As the pipeline gives it, or None.
        guidance_rescale: As the pipeline gives it, else 0.
        output: (images, C, h, w) on the CPU, as the scheduler received it; complete once the trace has the step.
    """

    evaluations: tuple[Evaluation, ...]
    guidance_scale: float | None
    guidance_rescale: float
    output: Tensor


class LiveCall:
    """The evaluations of one pipeline call.

    Args:
        family: The denoiser's family.

    Attributes:
        family: The denoiser's family.
        steps: The steps so far.
        levels: Their noise levels.
    """

    family: Family
    steps: list[LiveStep]
    levels: list[NoiseLevel]

    def __init__(self, family: Family) -> None:
        self.family = family
        self.steps = []
        self.levels = []
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
        """Record an evaluation that begins.

        Args:
            module: The denoiser.
            args: Its positional arguments.
            kwargs: Its keyword arguments.
            batch: Rows of the call.
            branches: Which rows carry the prompt and the negative prompt.
        """
        arguments = arguments_by_name(module.forward, args, kwargs)
        names = [name for name in arguments if name != "return_dict"]
        latents: Any = arguments[names[0]]
        first: Any = latents if isinstance(latents, Tensor) else latents[0]
        references = None
        if isinstance(first, list):
            references, first = [list(row[:-1]) for row in latents], first[-1]
        kind = first.device.type
        evaluation = Evaluation(
            latents=names[0],
            # outputs of other networks are large and cannot be used: only their names are stored
            arguments={
                name: None if name in _FROM_LATENTS else arguments[name]
                for name in names[1:]
                if arguments[name] is not None
            },
            batch=batch,
            branches={**branches, **self._references_alone(batch, branches)},
            shape=tuple(first.shape),
            listed=not isinstance(latents, Tensor),
            dtype=first.dtype,
            device=first.device,
            autocast=torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else None,
            references=references,
        )
        self._denoiser = weakref.ref(module)
        self._pending.append((evaluation, latents))

    def _references_alone(self, batch: int, branches: Mapping[Branch, slice]) -> dict[EvaluatedBranch, slice]:
        images = sum(rows.stop - rows.start for branch, rows in branches.items() if branch == "prompt")
        has_third = self.family.references_alone_last or self.family.side_by_side
        if not (has_third and images and batch == 3 * images):
            return {}
        others = {rows.start for rows in branches.values()}
        start = next(start for start in range(0, batch, images) if start not in others)
        return {"references": slice(start, start + images)}

    def stepped(self, pipe: Any, sample: Tensor, output: Tensor) -> None:
        """Record a step of the scheduler.

        Args:
            pipe: The pipeline; None for a loop outside of its `__call__`, whose guidance is not stated anywhere.
            sample: (images, C, h, w), the latents before the step.
            output: See `LiveStep.output`.
        """
        pending, self._pending = self._pending, []
        scale, rescale = stated_guidance(pipe)
        self.steps.append(
            LiveStep(
                evaluations=tuple(self._with_extra(evaluation, latents, sample) for evaluation, latents in pending),
                guidance_scale=scale,
                guidance_rescale=rescale,
                output=output,
            )
        )

    def _with_extra(self, evaluation: Evaluation, latents: Any, sample: Tensor) -> Evaluation:
        if self.family.latent_form is not None:
            return replace(evaluation, extra=latents.detach().clone())
        if self.family.side_by_side:
            return replace(evaluation, extra=latents[..., sample.shape[-1] :].detach().clone(), extra_axis=3)
        latent_size = sample.shape[1]
        if len(evaluation.shape) == 3 and self.family.packing is not None:
            latent_size = sample.shape[2] * sample.shape[3] // self.family.packing**2
            channels = sample.shape[1] * self.family.packing**2
            if evaluation.shape[2] > channels and not evaluation.listed:
                return replace(evaluation, extra=latents[:, :, channels:].detach().clone(), extra_axis=2)
        if evaluation.listed or evaluation.shape[1] <= latent_size:
            return evaluation
        others = slice(-latent_size) if self.family.input_ends_with_image else slice(latent_size, None)
        return replace(evaluation, extra=latents[:, others].detach().clone())


def from_other_networks(evaluation: Evaluation) -> list[str]:
    """List the arguments that another network, such as a ControlNet, computed from the latents.

    Args:
        evaluation: A call of the denoiser.

    Returns:
        Names of the arguments.
    """
    return [name for name in evaluation.arguments if name in _FROM_LATENTS]


_calls: weakref.WeakKeyDictionary[Trace, tuple[LiveCall, int]] = weakref.WeakKeyDictionary()


def set_live_call(trace: Trace, call: LiveCall, image: int) -> None:
    """Store the call that a trace records.

    Args:
        trace: The trace.
        call: Its call.
        image: Index of its image in the call.
    """
    _calls[trace] = call, image


def find_live_call(trace: Trace) -> tuple[LiveCall, int]:
    """Find the call that a trace records.

    Args:
        trace: A trace made in this process.

    Returns:
        The call, and the index of the trace's image in it.

    Raises:
        ValueError: The trace was opened from a file, or copied.
    """
    call = _calls.get(trace)
    if call is None:
        raise ValueError(
            "this trace has no live pipeline: it was opened from a file, copied or pickled. Evaluating the model again "
            "needs a trace of this process: run it with dv.trace(pipe, prompt, seed=...), the seed is in trace.meta"
        )
    return call


def branches_of(step: LiveStep) -> list[tuple[Evaluation, list[EvaluatedBranch]]]:
    """List the evaluations of a step and, of each, the branches in the order of their rows.

    Args:
        step: The step.

    Returns:
        By evaluation, its branches.

    Raises:
        ValueError: The step cannot be evaluated again.
    """
    others = [name for evaluation in step.evaluations for name in from_other_networks(evaluation)]
    if others:
        raise ValueError(
            f"the denoiser of this run was given {others[0]}, which another network (ControlNet, adapter) computed "
            "from the latents: it is no function of the latents alone and cannot be evaluated again"
        )
    images = len(step.output)
    parts = [
        (evaluation, sorted(evaluation.branches, key=lambda branch: evaluation.branches[branch].start))
        for evaluation in step.evaluations
    ]
    evaluated = [branch for _, branches in parts for branch in branches]
    rows = sum(evaluation.batch for evaluation in step.evaluations)
    if "prompt" not in evaluated or rows != images * len(evaluated):
        raise ValueError(
            f"this run evaluated its denoiser on {rows // images} parts per step, {len(evaluated)} of them for its "
            "prompts (perturbed-attention guidance, say): only runs without guidance or with classifier-free guidance "
            "can be evaluated again"
        )
    return parts
