"""Generates one traced image from a prompt, on a private copy of the pipeline."""

from __future__ import annotations

import copy
import secrets
from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch

from diffvis_widget import schedule as schedules
from diffvis_widget.arguments import shorten, whole_number
from diffvis_widget.call_defaults import call_defaults, is_modular
from diffvis_widget.traces import Step, Trace
from diffvis_widget.traces.types import Keep

from .active_interventions import Intervention
from .call_arguments import check_call_arguments
from .hooks import is_watched
from .locks import denoiser_lock
from .modular_calls import separate, take_guidance
from .tracer import OwnCallTracer


def private_copy(pipe: Any) -> Any:
    """Copy a pipeline so that runs of the copy leave it as it was.

    Args:
        pipe: A diffusers pipeline.

    Returns:
        A shallow copy: the same weights, its own scheduler, no hooks.
    """
    return _copied(pipe, {})


def _copied(pipe: Any, schedulers: dict[int, Any]) -> Any:
    """schedulers: the copies made so far; a pipeline made of pipelines shares them with its parts."""
    clone = copy.copy(pipe)
    for name in [name for name, value in vars(clone).items() if is_watched(value)]:
        del vars(clone)[name]
    if id(pipe.scheduler) not in schedulers:
        scheduler = schedulers[id(pipe.scheduler)] = copy.deepcopy(pipe.scheduler)
        for name in [name for name, value in vars(pipe.scheduler).items() if is_watched(value)]:
            del vars(scheduler)[name]
    clone.scheduler = schedulers[id(pipe.scheduler)]
    separate(clone)
    for name, part in list(vars(clone).items()):
        if hasattr(part, "scheduler") and isinstance(getattr(part, "components", None), dict):
            setattr(clone, name, _copied(part, schedulers))
    return clone


def trace(
    pipe: Any,
    prompt: str | None,
    *,
    seed: int | None = None,
    num_inference_steps: int | None = None,
    schedule: Literal["uniform", "early", "late"] = "uniform",
    schedule_strength: float = 60,
    negative_prompt: str | None = None,
    keep: Keep | None = None,
    on_step: Callable[[Step], object] | None = None,
    compiled: Literal["eager"] | None = None,
    output: bool = False,
    interventions: Sequence[Intervention] = (),
    concepts: Sequence[str] = (),
    **pipe_kwargs: Any,
) -> Trace:
    """Generate one image and return its Trace.

    Runs on a shallow copy of the pipeline with its own scheduler, so the pipeline stays as it was, and waits while
    another thread uses the same denoiser.

    Args:
        pipe: A diffusers pipeline.
        prompt: The text; None with `prompt_embeds` in pipe_kwargs.
        seed: Of the initial noise, 0 to 2**64 - 1; None draws one, which `trace.meta["seed"]` holds.
        num_inference_steps: Number of denoising steps; None for the pipeline's default (30 for the scenes model).
        schedule: Where the steps are spent, see `diffvis_widget.timesteps`.
        schedule_strength: See `diffvis_widget.timesteps`.
        negative_prompt: The negative prompt, or None.
        keep: Which attention maps to store, see `Tracer`.
        on_step: Called with each finished Step, see `Tracer`.
        compiled: Whether to run a compiled denoiser uncompiled, see `Tracer`.
        output: Whether to record output-space scores, see `Tracer`.
        interventions: What to change in the run, see `diffvis_widget.intervene`.
        concepts: Words outside the prompt whose maps are wanted, see `Tracer`.
        **pipe_kwargs: Other arguments of the pipeline call.

    Returns:
        The trace of the run.

    Raises:
        TypeError: An argument has the wrong type, or the pipeline call does not take it. Nothing was run.
        ValueError: An argument is out of its range, or the pipeline cannot be traced. Nothing was run.

    Example:
        >>> import diffvis_widget as dv
        >>> trace = dv.trace(dv.load(), "a red circle", seed=7, num_inference_steps=2)
        >>> [word.text for word in trace.words if word.kind == "word"]
        ['a', 'red', 'circle']
    """
    if prompt is None:
        if pipe_kwargs.get("prompt_embeds") is None:
            raise TypeError("prompt must be a text; it may be None only where prompt_embeds= is given")
    elif not isinstance(prompt, str):
        raise TypeError(f"prompt must be one text, not {type(prompt).__name__}; for several use Tracer around the call")
    if negative_prompt is not None and not isinstance(negative_prompt, str):
        raise TypeError(f"negative_prompt must be one text or None, not {type(negative_prompt).__name__}")
    if pipe_kwargs.get("num_images_per_prompt", 1) != 1:
        raise ValueError("num_images_per_prompt: trace makes one image; for several use Tracer around the call")
    seed = check_seed(seed, "generator" in pipe_kwargs)
    generator = None if seed is None else torch.Generator("cpu").manual_seed(seed)
    options: dict[str, Any] = {"keep": keep, "on_step": on_step, "compiled": compiled, "output": output}
    options |= {"interventions": interventions, "concepts": concepts}
    schedule_options = schedule, num_inference_steps, schedule_strength
    tracer = _called(pipe, prompt, negative_prompt, generator, schedule_options, options, pipe_kwargs)
    return _described(tracer.trace, prompt, schedule, schedule_strength)


def trace_batch(
    pipe: Any,
    prompts: Sequence[str],
    seeds: Sequence[int],
    *,
    num_inference_steps: int | None = None,
    schedule: Literal["uniform", "early", "late"] = "uniform",
    schedule_strength: float = 60,
    negative_prompt: str | None = None,
    keep: Keep = "layers",
    compiled: Literal["eager"] | None = None,
    output: bool = False,
    **pipe_kwargs: Any,
) -> list[Trace]:
    """Generate several images in one call of the pipeline, with one Trace each.

    Each image has its own prompt and seed. It equals that of `trace` within rounding: a matrix product of another size
    may add in another order.

    Args:
        pipe: A diffusers pipeline that takes lists of prompts and generators.
        prompts: The texts.
        seeds: Seed of each one's noise.
        num_inference_steps: As for `trace`, and so the others.
        schedule: As for `trace`.
        schedule_strength: As for `trace`.
        negative_prompt: Of all images, or None.
        keep: As for `trace`.
        compiled: As for `trace`.
        output: As for `trace`.
        **pipe_kwargs: Other arguments of the pipeline call.

    Returns:
        The traces, in the order of the prompts.

    Raises:
        ValueError: The pipeline made another number of images, or an argument is out of its range.
    """
    generators = [torch.Generator("cpu").manual_seed(seed) for seed in seeds]
    negatives = None if negative_prompt is None else [negative_prompt] * len(prompts)
    options: dict[str, Any] = {"keep": keep, "compiled": compiled, "output": output}
    schedule_options = schedule, num_inference_steps, schedule_strength
    traces = _called(pipe, list(prompts), negatives, generators, schedule_options, options, pipe_kwargs).traces
    if len(traces) != len(prompts):
        raise ValueError(
            f"{type(pipe).__name__} made {len(traces)} images of {len(prompts)} prompts: trace them one by one"
        )
    pairs = zip(traces, prompts, strict=True)
    return [_described(made, prompt, schedule, schedule_strength) for made, prompt in pairs]


def _called(
    pipe: Any,
    prompt: Any,
    negative_prompt: Any,
    generator: Any,
    schedule: tuple[Literal["uniform", "early", "late"], int | None, float],
    options: dict[str, Any],
    pipe_kwargs: dict[str, Any],
) -> OwnCallTracer:
    """The tracer of a call of the pipeline that has ended."""
    kind, steps, strength = schedule
    with denoiser_lock(pipe):
        clone = private_copy(pipe)
        tracer = OwnCallTracer(clone, **options)
        arguments = dict(pipe_kwargs)
        if steps is None and not pipe_kwargs.keys() & {"timesteps", "sigmas"}:
            steps = call_defaults(clone).steps
        arguments |= schedules.pipeline_arguments(clone.scheduler, kind, steps, strength)
        if negative_prompt is not None:
            arguments["negative_prompt"] = negative_prompt
        if prompt is not None or not is_modular(clone):
            arguments["prompt"] = prompt
        check_call_arguments(clone, arguments)
        take_guidance(clone, arguments)
        if generator is not None:
            arguments["generator"] = generator
        with tracer:
            clone(**arguments)
    return tracer


def _described(result: Trace, prompt: str | None, schedule: str, schedule_strength: float) -> Trace:
    result.prompt = result.prompt or prompt or ""  # pipelines without word maps may hide it from the tracer
    if schedule != "uniform":
        result.meta |= {"schedule": schedule, "schedule_strength": float(schedule_strength)}
    return result


def check_seed(seed: Any, has_generator: bool = False) -> int | None:
    """Check the seed of a run.

    Args:
        seed: The argument; None draws one.
        has_generator: Whether the call has a generator of its own.

    Returns:
        The seed; None where the call has a generator.

    Raises:
        TypeError: It is no integer.
        ValueError: It is out of range, or there is a generator too.
    """
    if seed is None:
        return None if has_generator else secrets.randbelow(2**31)
    if has_generator:
        raise ValueError("give seed= or generator=, not both")
    number = whole_number(seed)
    if number is None:
        raise TypeError(f"seed must be an integer, not {shorten(seed)}")
    if not 0 <= number < 2**64:
        raise ValueError(f"seed must lie in 0 .. 2**64 - 1, not {shorten(number)}")
    return number
