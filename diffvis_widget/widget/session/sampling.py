"""One run of a diffusers pipeline for the widget: its own copy of the pipeline, the tracer around it, live pictures.

The only part of the widget that touches torch. It runs in the session's worker thread and nowhere else.
"""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

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
class Budget:
    """Says when an exact decode is cheap enough to be done live."""

    started: float = field(default_factory=time.perf_counter)
    spent: float = 0.0
    longest: float = 0.0

    def allows(self) -> bool:
        elapsed = time.perf_counter() - self.started
        return not self.spent or self.spent + self.longest <= DECODE_SECONDS + DECODE_SHARE * elapsed

    def pay(self, seconds: float) -> None:
        # The first decode warms the VAE up and says little about the next ones.
        self.longest = seconds if self.spent == self.longest else max(self.longest, seconds)
        self.spent += seconds


class Camera:
    """Takes the pictures of each step of a run: exactly decoded as far as the budget allows, else by a linear map."""

    def __init__(self, pipe: Any) -> None:
        from diffvis_widget.tracer import Preview

        self._preview, self._budget = Preview(pipe), Budget()

    def shot(self, trace: Trace, step: Step) -> StepImages:
        """The pictures of a step that was just finished."""
        record = trace.records[step.index]
        exact = self._budget.allows()
        if exact:
            before = time.perf_counter()
            picture = self._preview.fit(record.prediction)
            self._budget.pay(time.perf_counter() - before)
        else:
            picture = self._preview.image(record.prediction)
        noisy = self._preview.image(record.latents.astype(np.float32) * np.float32(record.visible))
        return StepImages(step, picture, noisy, exact, self._budget.longest)


def check_call(pipe: Any, arguments: Mapping[str, Any]) -> None:
    """Refuse pipeline arguments that the widget sets itself or that the pipeline does not take, and one without prompt.

    Raises:
        TypeError: naming the argument and what to use instead.
    """
    for name in arguments:
        if name in RESERVED:
            raise TypeError(f"{name}= is set by the widget itself: use {RESERVED[name]}")
    if pipe is None:
        return
    takes = inspect.signature(type(pipe).__call__).parameters
    # diffusers' own pipelines take **kwargs for retired arguments only
    free = any(parameter.kind is parameter.VAR_KEYWORD for parameter in takes.values())
    if "prompt" not in takes and not free:
        raise TypeError(f"{type(pipe).__name__} takes no prompt: DiffVis shows pipelines that paint from a text")
    if free and not type(pipe).__module__.startswith("diffusers."):
        return
    unknown = [name for name in arguments if name not in takes]
    if unknown:
        raise TypeError(
            f"{type(pipe).__name__} takes no argument {', '.join(unknown)}; it takes "
            f"{', '.join(name for name in takes if name not in RESERVED and name != 'self')}"
        )


def sample(
    pipe: Any,
    request: RunRequest,
    arguments: Mapping[str, Any],
    on_step: Callable[[Trace, StepImages], None],
    keep: Literal["layers", "heads"] = "layers",
) -> Trace:
    """Run a copy of ``pipe`` as ``request`` says. ``on_step(trace, shot)`` sees every finished step.

    ``keep`` says how finely the trace keeps attention.

    What ``on_step`` or the pipeline raises comes out; the trace that ``on_step`` was given keeps the finished steps.
    """
    import torch

    from diffvis_widget import intervene
    from diffvis_widget.schedule import pipeline_arguments
    from diffvis_widget.tracer import Tracer, private_copy

    own = private_copy(pipe)
    own.set_progress_bar_config(disable=True)
    camera = Camera(own)

    def finished(step: Step) -> None:
        trace = tracer.traces[0]
        if request.schedule != "uniform":
            trace.meta |= {"schedule": request.schedule, "schedule_strength": request.schedule_strength}
        on_step(trace, camera.shot(trace, step))

    takes = inspect.signature(type(own).__call__).parameters
    call: dict[str, Any] = {
        **arguments,
        **pipeline_arguments(own.scheduler, request.schedule, request.steps, request.schedule_strength),
        "generator": torch.Generator("cpu").manual_seed(request.seed),
    }
    optional = {"negative_prompt": request.negative_prompt or None, "guidance_scale": request.guidance_scale}
    call |= {name: value for name, value in optional.items() if name in takes}
    # Grad mode does not cross threads, so the worker sets its own.
    interventions = [
        intervene.drop(word) if factor is None else intervene.weight(word, factor)
        for word, factor in request.present_weights.items()
    ]
    with torch.no_grad(), Tracer(own, keep=keep, on_step=finished, interventions=interventions) as tracer:
        own(prompt=request.prompt, **call)
    return tracer.traces[0]
