"""One run of a diffusers pipeline for the widget: a copy of the pipeline, and the tracer around it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

from diffvis_widget.call_defaults import call_defaults, call_parameters
from diffvis_widget.traces.prompt_words import occurs
from diffvis_widget.wire.messages import RunRequest

if TYPE_CHECKING:
    from diffvis_widget.traces import Step, Trace

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
    on_step: Callable[[Trace, Step], None],
    keep: Literal["layers", "heads"] = "layers",
    concepts: Sequence[str] = (),
) -> Trace:
    """Run a copy of a pipeline.

    What ``on_step`` or the pipeline raises is raised; the trace that ``on_step`` got keeps the finished steps.

    Args:
        pipe: the pipeline, which is left as it is.
        request: what to run.
        arguments: further arguments for the pipeline's call.
        on_step: called with the trace and every finished step, in the middle of the call.
        keep: how finely the trace keeps attention.
        concepts: words whose maps are wanted; those that the prompt has, or whose maps cannot be traced, are left out.

    Returns:
        The trace.

    Raises:
        ValueError: the pipeline does not take a setting of the run.
    """
    import torch

    from diffvis_widget import intervene
    from diffvis_widget.schedule import pipeline_arguments
    from diffvis_widget.tracer import OwnCallTracer, hide_progress_bars, private_copy, take_guidance
    from diffvis_widget.tracer.concept_encoding import traceable_concepts
    from diffvis_widget.tracer.locks import locked_decodes

    check_settings(pipe, request)
    copy = private_copy(pipe)
    hide_progress_bars(copy)

    def finished(step: Step) -> None:
        trace = tracer.traces[0]
        if request.schedule != "uniform":
            trace.meta |= {"schedule": request.schedule, "schedule_strength": request.schedule_strength}
        on_step(trace, step)

    takes = call_parameters(copy)
    call: dict[str, Any] = {
        **arguments,
        **pipeline_arguments(copy.scheduler, request.schedule, request.steps, request.schedule_strength),
        "generator": torch.Generator("cpu").manual_seed(request.seed),
    }
    optional = {"negative_prompt": request.negative_prompt or None, "guidance_scale": request.guidance_scale}
    call |= {name: value for name, value in optional.items() if name in takes and value is not None}
    take_guidance(copy, call)
    interventions = [
        intervene.drop(word) if factor is None else intervene.weight(word, factor)
        for word, factor in request.present_weights.items()
    ]
    # Grad mode does not cross threads, so the worker sets its own.
    outside = traceable_concepts(copy, [word for word in concepts if not occurs(word, request.prompt)])
    tracer = OwnCallTracer(copy, keep=keep, on_step=finished, interventions=interventions, concepts=outside)
    with torch.no_grad(), locked_decodes(copy), tracer:
        copy(prompt=request.prompt, **call)
    return tracer.traces[0]
