"""The guided denoiser of one step as a function of the latents: what explain/ probes."""

from __future__ import annotations

import contextlib
import functools
import operator
from collections.abc import Iterator, Sequence
from typing import Any, SupportsIndex, cast, overload

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from diffvis_widget._compat.torch_compile import is_compiled
from diffvis_widget.tracer.families import Family
from diffvis_widget.traces import Trace

from . import guidance
from .attention import Branch
from .denoiser_inputs import Evaluation, LiveStep, find_live_call, from_other_networks
from .locks import lock_of, own_work
from .noise_levels import Level
from .packing import pack, unpack
from .provenance import fingerprint

# How far an answer to the traced latents may lie from the traced one: relative to its root mean square.
_TOLERANCE = {torch.float32: 1e-3, torch.float64: 1e-3, torch.float16: 2e-2, torch.bfloat16: 5e-2}


def denoiser(trace: Trace, step: int) -> Denoiser:
    """The guided denoiser of a step, as the pipeline used it, as a function of the latents.

    trace: made in this process, its pipeline still there; the pipeline may have made other pictures since. step: index
    into trace.steps, from the end if negative.
    Raises TypeError for other types; IndexError for a step that is not there; ValueError where the denoiser cannot be
    asked again: a trace opened from a file, a pipeline that is gone, weights that were changed, networks beside the
    denoiser (ControlNet), a way of guiding that is not known.
    """
    if not isinstance(trace, Trace):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"trace must be a Trace, as dv.trace returns it, not {type(trace).__name__}")
    probe = Denoiser(trace, step)
    _ = probe.output  # now is the time to say that it cannot
    return probe


class Denoiser:
    """f(latents) = unconditional + g (conditional - unconditional), everything else as at one step of a trace.

    Call it with latents (n, C, h, w), on the scale of `trace.latents`, any n >= 1, as a numpy array or a tensor: the
    guided output (n, C, h, w) of the denoiser comes back as the same kind (numpy: float16 if the model's, else float32;
    a tensor: on the denoiser's device, in its dtype). It is what the scheduler of that step would be given: noise,
    velocity, flow or clean latents, whatever the model predicts. Without gradient; holds the denoiser's lock.
    Raises ValueError for latents of another shape.

    index: of the step, from 0. module: the denoiser. latents: tensor (1, C, h, w) of the trace; output: f(latents).
    guidance_scale: g, or None where the denoiser answers the prompt alone.
    """

    def __init__(self, trace: Trace, step: int, *, checked: bool = False) -> None:
        """checked: the weights were found to be those of the trace a moment ago, for another step."""
        call, self._image = find_live_call(trace)
        records = trace.records
        self.index = _step(step, len(records))
        _check_plain(trace, self.index)
        self.family = call.family
        self._step = call.steps[self.index]
        self._level = call.levels[self.index]
        self._next = _following(call.levels[: len(records)], self.index)
        module = call.denoiser
        if module is None:
            raise ValueError("the pipeline of this trace is gone: keep it in a variable, and run the trace again")
        self.module: nn.Module = module
        self._parts = _parts(self._step)
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
        result = self._guidance(*self._asked(self._tensor(latents)))
        if isinstance(latents, Tensor):
            return result
        return (result.float() if result.dtype == torch.bfloat16 else result).cpu().numpy()

    @functools.cached_property
    def output(self) -> Tensor:
        """f(latents), found to be what the scheduler was given. Raises ValueError where it is not."""
        return self._guidance(*self._answers)

    @property
    def guidance_scale(self) -> float | None:
        return self._guidance.scale

    @functools.cached_property
    def _answers(self) -> tuple[Tensor, Tensor | None]:
        return self._asked(self.latents)

    @functools.cached_property
    def _guidance(self) -> guidance.Guidance:
        traced = self._step.output[self._image : self._image + 1, : self._shape[0]].to(self.device)
        step = self._step
        found, off = guidance.fit_guidance(
            *self._answers, traced, step.guidance_scale, step.guidance_rescale, self.family.guidance_candidates
        )
        if off > _TOLERANCE.get(self.dtype, 1e-3):
            raise ValueError(
                f"the denoiser no longer answers as it did when this trace was made (off by {off:.1%} at step "
                f"{self.index}): its weights, adapters or attention processors were changed since, or the pipeline "
                "guides in a way that is not known here"
            )
        return found

    def _asked(self, latents: Tensor) -> tuple[Tensor, Tensor | None]:
        with torch.inference_mode(False), torch.no_grad(), self.held():
            answers = self.answers(latents)
        return answers["prompt"], answers.get("negative")

    def answers(self, latents: Tensor) -> dict[Branch, Tensor]:
        """The raw outputs (n, C, h, w) to the prompt and to the negative prompt. Differentiable; take `held()`."""
        answers: dict[Branch, Tensor] = {}
        for evaluation, branches in self._parts:
            rows = [row for branch in branches for row in self._rows(evaluation, branch) * len(latents)]
            raw = self.run(evaluation, torch.cat([latents] * len(branches)), rows, self.arguments(evaluation, rows))
            answers.update(zip(branches, raw.chunk(len(branches)), strict=True))
        return answers

    @property
    def visible(self) -> float:
        """The factor between `trace.latents` at this step and what the denoiser is given."""
        return self._level.visible

    @property
    def branches(self) -> list[Branch]:
        """What the rows of `answers` mean to a hook in the denoiser: the branches in the order of evaluation."""
        return [branch for _, branches in self._parts for branch in branches]

    @property
    def joined(self) -> int:
        """Positions of another picture that follow the image's own in the denoiser's sequence (editing models)."""
        first = self._step.evaluations[0]
        return first.extra.shape[1] if first.extra is not None and first.extra.ndim == 3 else 0

    def prompt(self) -> tuple[Evaluation, list[int]]:
        """The evaluation that carries the prompt, and the row in it that belongs to this trace's image."""
        evaluation = next(evaluation for evaluation, branches in self._parts if "prompt" in branches)
        return evaluation, self._rows(evaluation, "prompt")

    def arguments(self, evaluation: Evaluation, rows: Sequence[int]) -> dict[str, Any]:
        """All that the denoiser was given beside the latents, for these rows."""
        index = torch.tensor(rows, device=evaluation.device)
        return {
            name: pick_argument_rows(name, value, index, evaluation.batch, self.family)
            for name, value in evaluation.arguments.items()
        }

    def run(self, evaluation: Evaluation, latents: Tensor, rows: Sequence[int], arguments: dict[str, Any]) -> Tensor:
        """The denoiser itself on latents (len(rows), C, h, w) that stand for these rows of an evaluation."""
        # latents that the pipeline's loop keeps as rows, one per square of `side`
        side = (self.family.packing or 0) if len(evaluation.shape) == 3 else 0
        size = (int(latents.shape[2]), int(latents.shape[3]))
        visible = self._level.visible
        given: Any = (latents * visible if abs(visible - 1) > 1e-6 else latents).to(evaluation.dtype)
        if side:
            given = pack(given, side)
        elif evaluation.listed or len(evaluation.shape) == 5:
            given = given[:, :, None]  # a video of one frame
        if evaluation.extra is not None:
            given = torch.cat([given, evaluation.extra[list(rows)]], dim=1)
        kind = evaluation.device.type
        with torch.autocast(kind, dtype=evaluation.autocast, enabled=evaluation.autocast is not None):
            asked = {evaluation.latents: list(given) if evaluation.listed else given}
            output = self.module(**asked, **arguments, return_dict=False)[0]
        if not isinstance(output, Tensor):
            output = torch.stack(list(output))
        if side:
            output = unpack(output[:, : size[0] * size[1] // side**2], size, side)
        elif output.ndim == 5:
            output = output[:, :, 0]
        return output[:, : latents.shape[1]]  # a learned variance follows the prediction

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """The denoiser's lock, with its compiled blocks run as they were traced, unseen by tracers of this thread."""
        with contextlib.ExitStack() as stack:
            stack.enter_context(lock_of(self.module))
            stack.enter_context(own_work())
            if is_compiled(self.module):
                stack.enter_context(torch.compiler.set_stance("force_eager"))
            yield

    # -- what an output means ----------------------------------------------------------------------------------------

    def clean(self, latents: Tensor, output: Tensor) -> Tensor:
        """The predicted clean latents (n, C, h, w), float32, from latents and the output for them."""
        one, zero = np.ones(1, np.float32), np.zeros(1, np.float32)
        # linear in both, whatever the model predicts
        on_latents, on_output = float(self._level.clean(one, zero)[0]), float(self._level.clean(zero, one)[0])
        return on_latents * latents.float() + on_output * output.float()

    def advance(self, latents: Tensor, output: Tensor) -> Tensor:
        """Latents (n, C, h, w), float32, one denoising step later, on the scale that the VAE knows.

        The deterministic first-order step (DDIM, arXiv 2010.02502; Euler for flow matching) to the next noise level of
        the trace: a function of these latents alone, where a multistep scheduler would mix in the run's own past.
        """
        clean = self.clean(latents, output)
        if self._next is None:
            return clean
        noise = (latents.float() - self._level.alpha * clean) / max(self._level.sigma, 1e-12)
        return self._next.visible * (self._next.alpha * clean + self._next.sigma * noise)

    # -- inside ------------------------------------------------------------------------------------------------------

    def _rows(self, evaluation: Evaluation, branch: Branch) -> list[int]:
        return [evaluation.branches[branch].start + self._image]

    def _tensor(self, latents: Tensor | NDArray[Any]) -> Tensor:
        if not isinstance(latents, Tensor | np.ndarray):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"latents must be a numpy array or a tensor, not {type(latents).__name__}")
        if latents.ndim != 4 or tuple(latents.shape[1:]) != self._shape or not len(latents):
            raise ValueError(f"latents must be (n, {', '.join(map(str, self._shape))}), not {tuple(latents.shape)}")
        tensor = latents if isinstance(latents, Tensor) else torch.from_numpy(np.ascontiguousarray(latents))
        return tensor.to(device=self.device, dtype=self.dtype)


def pick_argument_rows(name: str, value: Any, index: Tensor, batch: int, family: Family) -> Any:
    """Other rows of an argument of the denoiser.

    Args:
        name: Its name.
        value: Its value in a call with `batch` rows.
        index: int64 (rows,), which rows to take.
        batch: Rows of the call.
        family: Says along which axis the rows of this argument lie.

    Returns:
        The argument for a call with `len(index)` rows.
    """
    axis = family.batch_axes.get(name, 0)
    if axis is None:
        return value
    return value.index_select(axis, index.to(value.device)) if axis else pick_rows(value, index, batch)


def pick_rows(value: Any, index: Tensor, batch: int) -> Any:
    """An argument of the denoiser with other rows: what has one entry per row of the batch, however deep it lies."""
    if isinstance(value, Tensor):
        if value.ndim and len(value) == batch:
            return value.index_select(0, index.to(value.device))
        return value.clone() if value.is_inference() else value
    if isinstance(value, dict):
        return {name: pick_rows(one, index, batch) for name, one in value.items()}
    if isinstance(value, list | tuple):
        # a list of rows, but for one whose entries have a row each themselves; a tuple is a set of things
        per_row = isinstance(value, list) and len(value) == batch
        if per_row and not all(isinstance(one, Tensor) and one.ndim and len(one) == batch for one in value):
            return [value[row] for row in index.tolist()]
        return type(value)(pick_rows(one, index, batch) for one in value)
    return value


def _step(step: Any, count: int) -> int:
    try:
        index = operator.index(cast(SupportsIndex, step))
    except TypeError:
        index = None
    if index is None or isinstance(step, bool):
        raise TypeError(f"step must be an integer, not {step!r}")
    if not -count <= index < count:
        raise IndexError(f"step {index} is out of range: this trace has steps 0 to {count - 1}")
    return index % count


def _check_plain(trace: Trace, step: int) -> None:
    """Raise ValueError for a step whose attention was intervened on: asked again, the model would answer otherwise."""
    for one in trace.meta.get("interventions", ()):
        begin, end = one.get("steps", (0, 0))
        if begin <= step and (end is None or step < end) and one.get("factor") != 1:
            raise ValueError(
                f"step {step} of this trace was made with an intervention ({one['kind']}), so its denoiser cannot be "
                "asked again as it was; take a step without, or a trace without interventions"
            )


def _parts(step: LiveStep) -> list[tuple[Evaluation, list[Branch]]]:
    """The evaluations of a step and, of each, the branches in the order of their rows."""
    others = [name for evaluation in step.evaluations for name in from_other_networks(evaluation)]
    if others:
        raise ValueError(
            f"the denoiser of this run was given {others[0]}, which another network (ControlNet, adapter) computed "
            "from the latents: it is no function of the latents alone and cannot be asked again"
        )
    images = len(step.output)
    parts = [(one, sorted(one.branches, key=lambda branch: one.branches[branch].start)) for one in step.evaluations]
    asked = [branch for _, branches in parts for branch in branches]
    rows = sum(one.batch for one in step.evaluations)
    if "prompt" not in asked or rows != images * len(asked):
        raise ValueError(
            f"this run evaluated its denoiser on {rows // images} parts per step, {len(asked)} of them for its prompts "
            "(perturbed-attention guidance, say): only runs without guidance or with classifier-free guidance can be "
            "asked again"
        )
    return parts


def _following(levels: Sequence[Level], index: int) -> Level | None:
    """The next level with less noise: a corrector's evaluation may come first."""
    now = levels[index].ratio
    return next((level for level in levels[index + 1 :] if level.ratio < now), None)
