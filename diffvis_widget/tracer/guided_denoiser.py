"""The guided denoiser of one denoising step as a function of the latents."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator, Sequence
from typing import Any, overload

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from diffvis_widget._compat.torch_compile import is_compiled
from diffvis_widget.arguments import step_index
from diffvis_widget.tracer.families import Family
from diffvis_widget.traces import Trace

from . import guidance
from .denoiser_inputs import EvaluatedBranch, Evaluation, branches_of, find_live_call
from .locks import lock_of, own_work
from .model_outputs import prediction
from .noise_levels import NoiseLevel, next_level
from .packing import unpack
from .provenance import fingerprint

_Answers = tuple[Tensor, Tensor | None, Tensor | None]  # for the prompt, the negative prompt, references alone
# Largest accepted difference between the output for the traced latents and the traced output, relative to its RMS.
_TOLERANCE = {torch.float32: 1e-3, torch.float64: 1e-3, torch.float16: 2e-2, torch.bfloat16: 5e-2}


def denoiser(trace: Trace, step: int) -> Denoiser:
    """Return the guided denoiser of a step, as the pipeline used it, as a function of the latents.

    Args:
        trace: Made in this process, by a pipeline that still exists; it may have generated other images since.
        step: Index into `trace.steps`, from the end if negative.

    Returns:
        A function of latents (n, C, h, w) that gives the guided output (n, C, h, w).

    Raises:
        TypeError: An argument has the wrong type.
        IndexError: There is no such step.
        ValueError: The denoiser cannot be evaluated again: the trace was opened from a file, its pipeline was garbage
            collected, the weights changed, another network takes part (ControlNet), or the guidance is not known.

    Example:
        >>> import diffvis_widget as dv
        >>> pipe = dv.load()
        >>> trace = dv.trace(pipe, "a red circle", seed=7, num_inference_steps=2)
        >>> dv.denoiser(trace, 0)(trace.latents[:1]).shape
        (1, 4, 12, 12)
    """
    if not isinstance(trace, Trace):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"trace must be a Trace, as dv.trace returns it, not {type(trace).__name__}")
    probe = Denoiser(trace, step)
    _ = probe.output  # raises now if it cannot be evaluated
    return probe


class Denoiser:
    """f(latents) = unconditional + g (conditional - unconditional), everything else as at one step of a trace.

    Call it with latents (n, C, h, w) on the scale of `trace.latents`, any n >= 1, as a numpy array or a tensor. The
    guided output (n, C, h, w) has the same type (numpy: float16 if the model's, else float32; a tensor: on the
    denoiser's device, in its dtype). It is what the scheduler of that step would receive: noise, velocity, flow or
    clean latents, whatever the model predicts. It has no gradient. The call holds the denoiser's lock, and
    raises ValueError for latents of another shape.

    Args:
        trace: As for `denoiser`.
        step: As for `denoiser`.
        checked: The weights are known to be those of the trace, because another step was checked before.

    Attributes:
        index: Of the step, from 0.
        family: The denoiser's family.
        module: The denoiser.
        device: The device of its latents.
        dtype: The dtype of its latents.
        latents: Tensor (1, C, h, w), the latents of the trace before the step.
    """

    index: int
    family: Family
    module: nn.Module
    device: torch.device
    dtype: torch.dtype
    latents: Tensor

    def __init__(self, trace: Trace, step: int, *, checked: bool = False) -> None:
        call, self._image = find_live_call(trace)
        records = trace.records
        self.index = step_index(step, len(records))
        if trace.frame_count > 1:
            raise ValueError("trace: this one is of a video, and explanations work for images: trace an image")
        _check_plain(trace, self.index)
        self.family = call.family
        self._step = call.steps[self.index]
        self._level = call.levels[self.index]
        self._factors = self.family.scheduler_output(self._level)
        self._next = next_level(call.levels[: len(records)], self.index)
        if (module := call.denoiser) is None:
            raise ValueError("the pipeline of this trace is gone: keep it in a variable, and run the trace again")
        self.module = module
        self._parts = branches_of(self._step)
        first = self._step.evaluations[0]
        self.device, self.dtype = first.device, first.dtype
        self._shape = records[self.index].latents.shape
        self.latents = self._tensor(records[self.index].latents[None])
        if not checked and fingerprint(module) != trace.meta["fingerprint"]:
            raise ValueError("the denoiser's weights have been changed since this trace was made: run it again")

    # -- the function ------------------------------------------------------------------------------------------------

    @overload
    def __call__(self, latents: Tensor) -> Tensor: ...
    @overload
    def __call__(self, latents: NDArray[Any]) -> NDArray[Any]: ...
    def __call__(self, latents: Tensor | NDArray[Any]) -> Tensor | NDArray[Any]:
        """Evaluate the guided denoiser.

        Args:
            latents: (n, C, h, w), on the scale of `trace.latents`.

        Returns:
            The guided output (n, C, h, w).
        """
        tensor = self._tensor(latents)
        result = self._for_scheduler(tensor, self._guidance(*self._evaluate(tensor)))
        if isinstance(latents, Tensor):
            return result
        return (result.float() if result.dtype == torch.bfloat16 else result).cpu().numpy()

    @functools.cached_property
    def output(self) -> Tensor:
        """Evaluate the latents of the trace.

        Returns:
            The guided output (1, C, h, w), checked to be what the scheduler received.

        Raises:
            ValueError: It is another output.
        """
        return self._for_scheduler(self.latents, self._guidance(*self._answers))

    @property
    def guidance_scale(self) -> float | None:
        """The guidance scale g; None where only the prompt is evaluated."""
        return self._guidance.scale

    @property
    def guidance_form(self) -> guidance.Guidance:
        """How the outputs of the branches are combined."""
        return self._guidance

    @functools.cached_property
    def _answers(self) -> _Answers:
        return self._evaluate(self.latents)

    @functools.cached_property
    def _guidance(self) -> guidance.Guidance:
        traced = self._step.output[self._image : self._image + 1, : self._shape[0]].to(self.device)
        on_latents, on_output = self._factors
        traced = (traced - on_latents * self.latents) / on_output
        step = self._step
        conditional, unconditional, references = self._answers
        stated, candidates = (step.guidance_scale, step.guidance_rescale), self.family.guidance_candidates
        fitted, error = guidance.fit_guidance(conditional, unconditional, traced, *stated, candidates, references)
        if error > _TOLERANCE.get(self.dtype, 1e-3):
            reason = "its weights, adapters or attention processors were changed since, or the pipeline guides in a way"
            if self._answers[1] is None:  # as Ideogram 4
                reason += ", perhaps by another model,"
            if not self._level.is_known:
                reason = "its scheduler scales the denoiser's input in a way"
            raise ValueError(
                "the denoiser no longer answers as it did when this trace was made (off by "
                f"{error:.1%} at step {self.index}): {reason} that is not known here"
            )
        return fitted

    def _for_scheduler(self, latents: Tensor, guided: Tensor) -> Tensor:
        """What the pipeline's loop makes of the guided output for its scheduler."""
        on_latents, on_output = self._factors
        return guided if (on_latents, on_output) == (0, 1) else on_latents * latents + on_output * guided

    def _evaluate(self, latents: Tensor) -> _Answers:
        with torch.inference_mode(False), torch.no_grad(), self.held():
            answers = self.answers(latents)
        return answers["prompt"], answers.get("negative"), answers.get("references")

    def answers(self, latents: Tensor) -> dict[EvaluatedBranch, Tensor]:
        """Evaluate all branches, differentiably. Call it inside `held()`.

        Args:
            latents: (n, C, h, w) on the denoiser's device.

        Returns:
            By branch, the raw output (n, C, h, w).

        Raises:
            ValueError: The denoiser cannot be evaluated with these arguments: it keeps the batch in a form of its own.
        """
        answers: dict[EvaluatedBranch, Tensor] = {}
        for evaluation, branches in self._parts:
            rows = [row for branch in branches for row in self._rows(evaluation, branch) * len(latents)]
            arguments = self.arguments(evaluation, rows)
            try:
                raw = self.run(evaluation, torch.cat([latents] * len(branches)), rows, arguments)
            except torch.OutOfMemoryError:
                raise
            except RuntimeError as error:
                if len(latents) > 1:  # with arguments that are not split by image, such as stored keys
                    each = [self.answers(part[None]) for part in latents]
                    return {branch: torch.cat([answer[branch] for answer in each]) for branch in each[0]}
                raise ValueError(
                    f"denoiser: {self.family.name} cannot be evaluated again at step {self.index}: its pipeline passes "
                    f"arguments that are not split by image ({error}); what the trace holds is not concerned"
                ) from error
            answers.update(zip(branches, raw.chunk(len(branches)), strict=True))
        return answers

    @property
    def input_scale(self) -> float:
        """The factor from `trace.latents` at this step to what the denoiser receives."""
        return self._level.input_scale

    @property
    def branches(self) -> list[EvaluatedBranch]:
        """The branches in the order in which `answers` evaluates them."""
        return [branch for _, branches in self._parts for branch in branches]

    @property
    def joined(self) -> int:
        """Number of reference image tokens that follow the image tokens in the denoiser's sequence (editing models)."""
        first, is_behind = self._step.evaluations[0], not self.family.input_ends_with_image
        is_joined = is_behind and first.extra is not None and first.extra.ndim == 3 and first.extra_axis == 1
        return first.extra.shape[1] if is_joined and first.extra is not None else 0

    @property
    def level(self) -> NoiseLevel:
        """The noise level of the step."""
        return self._level

    def branch(self, branch: EvaluatedBranch = "prompt") -> tuple[Evaluation, list[int]]:
        """Find the evaluation of a branch.

        Args:
            branch: One of `branches`.

        Returns:
            The evaluation, and the row in it that belongs to the image of this trace.
        """
        evaluation = next(evaluation for evaluation, branches in self._parts if branch in branches)
        return evaluation, self._rows(evaluation, branch)

    def arguments(self, evaluation: Evaluation, rows: Sequence[int]) -> dict[str, Any]:
        """Select rows of the denoiser's arguments, the latents excluded.

        Args:
            evaluation: A call of the denoiser.
            rows: Rows of its batch.

        Returns:
            Arguments by name for a batch of `len(rows)`.
        """
        return evaluation.picked(self.family, rows)

    def run(self, evaluation: Evaluation, latents: Tensor, rows: Sequence[int], arguments: dict[str, Any]) -> Tensor:
        """Run the denoiser itself.

        Args:
            evaluation: The call to repeat.
            latents: (len(rows), C, h, w), on the scale of `trace.latents`.
            rows: The rows of the call that the latents stand for.
            arguments: The other arguments of the denoiser, for these rows.

        Returns:
            The raw output (len(rows), C, h, w).
        """
        form, side = self.family.latent_form, evaluation.square_side(self.family)
        size = (int(latents.shape[2]), int(latents.shape[3]))
        named = {evaluation.latents: self.inputs(evaluation, latents, rows)}
        kind = evaluation.device.type
        with torch.autocast(kind, dtype=evaluation.autocast, enabled=evaluation.autocast is not None):
            output = prediction(self.module(**named, **arguments, return_dict=False))
        if form is not None:
            output = form.image(output, size)
        elif side:
            output = unpack(self.family.image_output(output, size[0] * size[1] // side**2), size, side)
        elif output.ndim == 5:
            output = output[:, 0].permute(0, 3, 1, 2) if self.family.channels_last else output[:, :, 0]
        # a learned variance follows the prediction, and a reference stands at its right
        return output[:, : latents.shape[1], ..., : latents.shape[-1]]

    def inputs(self, evaluation: Evaluation, latents: Tensor, rows: Sequence[int]) -> Any:
        """Put latents into the form in which the denoiser is given them.

        Args:
            evaluation: The call to repeat.
            latents: (len(rows), C, h, w), on the scale of `trace.latents`.
            rows: The rows of the call that the latents stand for.

        Returns:
            The argument `evaluation.latents`.
        """
        scale = self._level.input_scale
        scaled = (latents * scale if abs(scale - 1) > 1e-6 else latents).to(evaluation.dtype)
        return evaluation.inputs(self.family, scaled, rows)

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Hold the denoiser's lock; tracers of this thread do not record what runs inside.

        Compiled blocks run uncompiled, as they were traced.

        Yields:
            None.
        """
        with contextlib.ExitStack() as stack:
            stack.enter_context(lock_of(self.module))
            stack.enter_context(own_work())
            if is_compiled(self.module):
                stack.enter_context(torch.compiler.set_stance("force_eager"))
            yield

    # -- what an output means ----------------------------------------------------------------------------------------

    def clean(self, latents: Tensor, output: Tensor) -> Tensor:
        """Predict the clean latents.

        Args:
            latents: (n, C, h, w), on the scale of `trace.latents`.
            output: (n, C, h, w), the guided output for them.

        Returns:
            float32 (n, C, h, w).

        Raises:
            ValueError: The noise levels of the run's scheduler are not known.
        """
        if not self._level.is_known:
            raise ValueError(
                f"step {self.index} has no predicted clean latents: the noise levels of its scheduler are not known"
            )
        unit, zero = np.ones(1, np.float32), np.zeros(1, np.float32)
        # linear in both, whatever the model predicts
        on_latents, on_output = (
            float(self._level.predict_clean(unit, zero)[0]),
            float(self._level.predict_clean(zero, unit)[0]),
        )
        return on_latents * latents.float() + on_output * output.float()

    def advance(self, latents: Tensor, output: Tensor) -> Tensor:
        """Make one deterministic first-order step (DDIM, arXiv 2010.02502; Euler for flow matching).

        It goes to the next noise level of the trace and is a function of these latents alone, unlike the step of a
        multistep scheduler, which depends on earlier steps.

        Args:
            latents: (n, C, h, w), on the scale of `trace.latents`.
            output: (n, C, h, w), the guided output for them.

        Returns:
            float32 (n, C, h, w), on the scale of the VAE.

        Raises:
            ValueError: As for `clean`.
        """
        clean = self.clean(latents, output)
        if self._next is None:
            return clean
        noise = (latents.float() - self._level.alpha * clean) / max(self._level.sigma, 1e-12)
        return self._next.visible * (self._next.alpha * clean + self._next.sigma * noise)

    # -- inside ------------------------------------------------------------------------------------------------------

    def _rows(self, evaluation: Evaluation, branch: EvaluatedBranch) -> list[int]:
        return [evaluation.branches[branch].start + self._image]

    def _tensor(self, latents: Tensor | NDArray[Any]) -> Tensor:
        if not isinstance(latents, Tensor | np.ndarray):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"latents must be a numpy array or a tensor, not {type(latents).__name__}")
        if latents.ndim != 4 or tuple(latents.shape[1:]) != self._shape or not len(latents):
            raise ValueError(f"latents must be (n, {', '.join(map(str, self._shape))}), not {tuple(latents.shape)}")
        tensor = latents if isinstance(latents, Tensor) else torch.from_numpy(np.ascontiguousarray(latents))
        return tensor.to(device=self.device, dtype=self.dtype)


def _check_plain(trace: Trace, step: int) -> None:
    """Raise ValueError for a step with interventions: evaluated without them, the model has another output."""
    for intervention in trace.meta.get("interventions", ()):
        begin, end = intervention.get("steps", (0, 0))
        if begin <= step and (end is None or step < end) and intervention.get("factor") != 1:
            raise ValueError(
                f"step {step} of this trace was made with an intervention ({intervention['kind']}), so its denoiser "
                "cannot be evaluated again as it was; take a step without, or a trace without interventions"
            )
