"""One run of a diffusers pipeline for the widget: a copy of the pipeline, the tracer around it, images of each step.

Of the session's files only this one computes with torch.
"""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from diffvis_widget.call_defaults import call_defaults, call_parameters
from diffvis_widget.wire.messages import RunRequest, StepImages

if TYPE_CHECKING:
    from diffvis_widget.traces import Step, Trace

# Exact decodes may take this share of the time spent so far, and this many seconds in any case (a small VAE always
# keeps up, so that concepts can be scored live); the other steps get the linear preview.
DECODE_SHARE = 0.25
DECODE_SECONDS = 0.3
RESERVED = {
    "prompt": "prompt=",
    "negative_prompt": "negative_prompt=",
    "guidance_scale": "guidance_scale=",
    "num_inference_steps": "steps=",
    "timesteps": 'schedule="early" or "late"',
    "sigmas": 'schedule="early" or "late"',
    "generator": "seed=",
    "callback": "dv.Tracer(pipe, on_step=...)",
    "callback_steps": "dv.Tracer(pipe, on_step=...)",
    "callback_on_step_end": "dv.Tracer(pipe, on_step=...)",
    "output_type": "widget.trace.image",
    "return_dict": "widget.trace",
    "num_images_per_prompt": "dv.Tracer(pipe), which gives a trace for each image",
}


@dataclass
class DecodeBudget:
    """Decides when an exact decode is cheap enough to be done during the run.

    Attributes:
        started: when the run began, on the performance counter.
        spent: seconds spent on decodes.
        longest: seconds of the longest decode after the first.
    """

    started: float = field(default_factory=time.perf_counter)
    spent: float = 0.0
    longest: float = 0.0

    def allows(self) -> bool:
        """Decide about another decode.

        Returns:
            Whether it fits into the budget.
        """
        elapsed = time.perf_counter() - self.started
        return not self.spent or self.spent + self.longest <= DECODE_SECONDS + DECODE_SHARE * elapsed

    def spend(self, seconds: float) -> None:
        """Take note of a decode.

        Args:
            seconds: how long it took.
        """
        # The first decode warms the VAE up and says little about the next ones.
        self.longest = seconds if self.spent == self.longest else max(self.longest, seconds)
        self.spent += seconds


class Camera:
    """Makes the images of each step of a run: decoded exactly as far as the budget allows, else by a linear map.

    Args:
        pipe: the pipeline.
    """

    def __init__(self, pipe: Any) -> None:
        from diffvis_widget.tracer import Preview

        self._preview, self._budget = Preview(pipe), DecodeBudget()

    def images(self, trace: Trace, step: Step) -> StepImages:
        """The images of a step that was just finished.

        Args:
            trace: the trace, with that step.
            step: the step.

        Returns:
            The predicted and the noisy image.
        """
        record = trace.records[step.index]
        exact = self._budget.allows()
        if exact:
            before = time.perf_counter()
            prediction = self._preview.fit(record.prediction)
            self._budget.spend(time.perf_counter() - before)
        else:
            prediction = self._preview.image(record.prediction)
        latents = self._preview.image(record.latents.astype(np.float32) * np.float32(record.visible))
        return StepImages(step, prediction, latents, exact, self._budget.longest)


def check_call(pipe: Any, arguments: Mapping[str, Any]) -> None:
    """Refuse arguments that the widget sets itself or that the pipeline does not take, and pipelines without a prompt.

    Args:
        pipe: the pipeline; None where it is not loaded yet.
        arguments: the arguments for its call, by name.

    Raises:
        TypeError: names the argument and what to use instead.
        ValueError: a number is NaN, infinite or out of range.
    """
    for name in arguments:
        if name in RESERVED:
            raise TypeError(f"{name}= is set by the widget itself: use {RESERVED[name]}")
    if pipe is None:
        return
    from diffvis_widget.tracer.call_arguments import check_call_arguments

    takes = inspect.signature(type(pipe).__call__).parameters
    if "prompt" not in takes and not any(parameter.kind is parameter.VAR_KEYWORD for parameter in takes.values()):
        raise TypeError(f"{type(pipe).__name__} takes no prompt: DiffVis shows pipelines that paint from a text")
    check_call_arguments(pipe, arguments)


def check_settings(pipe: Any, request: RunRequest) -> None:
    """Refuse settings that the pipeline would ignore.

    Args:
        pipe: the pipeline.
        request: what to run.

    Raises:
        ValueError: names the setting.
    """
    takes = call_parameters(pipe)
    name = type(pipe).__name__
    if request.guidance_scale is not None and "guidance_scale" not in takes:
        raise ValueError(f"{name} takes no guidance_scale: leave it None, not {request.guidance_scale:g}")
    if request.negative_prompt and "negative_prompt" not in takes:
        raise ValueError(f'{name} takes no negative_prompt: leave it empty (""), not {request.negative_prompt!r}')


def with_defaults(request: RunRequest, pipe: Any) -> RunRequest:
    """Fill in the pipeline's own defaults.

    Args:
        request: what to run.
        pipe: the pipeline.

    Returns:
        The request, with the defaults in place of None.
    """
    defaults = call_defaults(pipe)
    return replace(
        request,
        steps=defaults.steps if request.steps is None else request.steps,
        guidance_scale=defaults.guidance_scale if request.guidance_scale is None else request.guidance_scale,
    )


def sample(
    pipe: Any,
    request: RunRequest,
    arguments: Mapping[str, Any],
    on_step: Callable[[Trace, StepImages], None],
    keep: Literal["layers", "heads"] = "layers",
) -> Trace:
    """Run a copy of a pipeline.

    What ``on_step`` or the pipeline raises is raised; the trace that ``on_step`` got keeps the finished steps.

    Args:
        pipe: the pipeline, which is left as it is.
        request: what to run.
        arguments: further arguments for the pipeline's call.
        on_step: called with the trace and the images of every finished step, in the middle of the call.
        keep: how finely the trace keeps attention.

    Returns:
        The trace.

    Raises:
        ValueError: the pipeline does not take a setting of the run.
    """
    import torch

    from diffvis_widget import intervene
    from diffvis_widget.schedule import pipeline_arguments
    from diffvis_widget.tracer import OwnCallTracer, private_copy

    check_settings(pipe, request)
    copy = private_copy(pipe)
    copy.set_progress_bar_config(disable=True)
    camera = Camera(copy)

    def finished(step: Step) -> None:
        trace = tracer.traces[0]
        if request.schedule != "uniform":
            trace.meta |= {"schedule": request.schedule, "schedule_strength": request.schedule_strength}
        on_step(trace, camera.images(trace, step))

    takes = call_parameters(copy)
    call: dict[str, Any] = {
        **arguments,
        **pipeline_arguments(copy.scheduler, request.schedule, request.steps, request.schedule_strength),
        "generator": torch.Generator("cpu").manual_seed(request.seed),
    }
    optional = {"negative_prompt": request.negative_prompt or None, "guidance_scale": request.guidance_scale}
    call |= {name: value for name, value in optional.items() if name in takes and value is not None}
    interventions = [
        intervene.drop(word) if factor is None else intervene.weight(word, factor)
        for word, factor in request.present_weights.items()
    ]
    # Grad mode does not cross threads, so the worker sets its own.
    with torch.no_grad(), OwnCallTracer(copy, keep=keep, on_step=finished, interventions=interventions) as tracer:
        copy(prompt=request.prompt, **call)
    return tracer.traces[0]
