"""Generates the Python code that repeats a run, or draws a figure of it again.

The values come from a trace, which may have been opened from a file of unknown origin. Each one is checked for its type
and written by `literals.literal`, so that the code consists of the expected calls with literals.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Unpack

from diffvis_widget.arguments import instance
from diffvis_widget.shipped import is_scenes_model
from diffvis_widget.step_numbers import step_number
from diffvis_widget.traces.requested_steps import requested_steps

from .literals import call, comment, literal
from .repeatable import call_arguments, check_repeatable, is_whole
from .view_options import DEFAULT_OPACITY, ViewOptions, check_size, view_of_step

if TYPE_CHECKING:
    from diffvis_widget.traces import Trace

_OWN_LOOP = (
    "# A loop of its own made this run, not a call of the pipeline: no call makes it again. Run it in a block:",
    "# with dv.Tracer(pipe) as tracer:",
    "#     ...",
    "trace = tracer.trace",
)

PathLike = str | os.PathLike[str]


def code(
    trace: Trace,
    *,
    step: int | None = None,
    size: int = 512,
    file: PathLike | None = None,
    out: str = "view.png",
    **options: Unpack[ViewOptions],
) -> str:
    """The Python code that draws the same figure as `png` with the same arguments.

    Args:
        trace: The trace.
        step: Index of the step; None for the final image.
        size: Pixels on the longest side of the image.
        file: Where the trace is saved; the code opens it. Without it the code repeats the run, which gives the same
            image on the same machine. For a model other than the built-in one it leaves a line to fill in; for a run
            that a loop of your own made, a comment says what to run. A map of a
            method is computed again, as by `dv.explain.overlay`.
        out: Name of the file that the code writes.
        **options: See `ViewOptions`.

    Returns:
        Python source.

    Raises:
        KeyError: A word is not in the prompt.
        IndexError: The step is out of range.
        ValueError: An option is out of range; or the run cannot be repeated, because its seed is unknown or it used
            the attention of another run; or ``saliency`` is a map instead of a method's name.

    Example:
        >>> import diffvis_widget as dv
        >>> trace = dv.trace(dv.load(), "a red circle", num_inference_steps=2)
        >>> print(dv.export.code(trace, step=1, words=["circle"], file="run.safetensors"))
        import diffvis_widget as dv
        <BLANKLINE>
        trace = dv.open_trace('run.safetensors')
        dv.export.png(trace, 'view.png', step=1, words=['circle'])  # step 2 on the page
        <BLANKLINE>
    """
    view, method = view_of_step(trace, step, **options), options.get("saliency")
    if method is not None and not isinstance(method, str):
        raise ValueError(f"code takes a method by its name, as in saliency={method.method!r}")
    layer = view.layer
    arguments: list[tuple[str, Any, Any]] = [
        ("step", view.step, None),
        ("words", [word if isinstance(word, str) else int(word) for word in view.words], []),
        ("view", view.view, "prediction"),
        ("layer", layer if layer is None or isinstance(layer, str) else int(layer), None),
        ("head", None if view.head is None else int(view.head), None),
        ("kind", options.get("kind"), None),
        ("saliency", method, None),
        ("opacity", float(view.opacity), DEFAULT_OPACITY),
        ("contours", view.contours, True),
        ("shared_scale", bool(options.get("shared_scale")), False),
        ("region", None if view.region is None else list(view.region), None),
        ("size", check_size(size), 512),
    ]
    written = [f"{name}={literal(name, value)}" for name, value, default in arguments if value != default]
    overlay = ""
    if method is not None and file is None:
        arguments_of_map = f"trace, {literal('step', view.step)}, {literal('saliency', method)}"
        overlay = f"dv.explain.overlay({arguments_of_map})\n"
    written.insert(0, literal("out", os.fsdecode(instance("out", out, (str, os.PathLike), "a file name"))))
    note = "" if view.step is None else f"  # step {step_number(view.step)} on the page"
    return f"{trace_source(trace, file)}{overlay}dv.export.png({', '.join(['trace', *written])}){note}\n"


def trace_source(trace: Trace, file: PathLike | None = None) -> str:
    """The Python code that gives a trace: the beginning of `code`.

    Args:
        trace: The trace.
        file: Where it is saved; None to repeat the run.

    Returns:
        Python source.

    Raises:
        ValueError: The run cannot be repeated.
    """
    lines = ["import diffvis_widget as dv", ""]
    if file is None:
        lines += _repeat_run(trace)
    else:
        path = instance("file", file, (str, os.PathLike), "the path of a trace file")
        lines.append(f"trace = dv.open_trace({literal('file', os.fsdecode(path))})")
    return "\n".join(lines) + "\n"


def _repeat_run(trace: Trace) -> list[str]:
    meta = trace.meta
    if meta.get("own_loop") is True:
        return list(_OWN_LOOP)
    check_repeatable(meta)
    is_scenes = is_scenes_model(meta.get("fingerprint"))
    pipe = "pipe = dv.load()"
    if not is_scenes:
        names = ("pipeline", "fingerprint", "scheduler")
        pipeline, fingerprint, scheduler = (comment(meta.get(name, "unknown")) for name in names)
        pipe = f"pipe = dv.load(...)  # the pipeline {pipeline} with fingerprint {fingerprint}, scheduler {scheduler}"
    arguments: dict[str, Any] = {
        "seed": meta["seed"],
        "num_inference_steps": requested_steps(trace),
        "guidance_scale": _checked(meta, "guidance_scale", int, float),
        "negative_prompt": trace.negative_prompt,
        "schedule": _checked(meta, "schedule", str),
        "schedule_strength": _checked(meta, "schedule_strength", int, float),
        "height": None if is_scenes else trace.decoded_image.shape[0],
        "width": None if is_scenes else trace.decoded_image.shape[1],
        "keep": None if trace.keep == "layers" else trace.keep,  # stored maps are rounded: keep changes their digits
    }
    arguments |= call_arguments(meta)
    written = [f"    {name}={literal(name, value)}," for name, value in arguments.items() if value is not None]
    if interventions := _interventions(meta.get("interventions")):
        written.append(f"    interventions=[{', '.join(interventions)}],")
    return [pipe, "trace = dv.trace(", "    pipe,", f"    {literal('prompt', trace.prompt)},", *written, ")"]


def _checked(values: Mapping[str, Any], name: str, *types: type) -> Any:
    """The value of a name, None where it has none. ValueError for another type, or a number that has no literal."""
    value = values.get(name)
    if value is None:
        return None
    if (
        not isinstance(value, types)
        or isinstance(value, bool)
        or (isinstance(value, float) and not math.isfinite(value))
    ):
        raise ValueError(f"this run cannot be repeated, for its {name} is {value!r}: give file=, where it is saved")
    return value


def _interventions(recorded: Any) -> list[str]:
    if not isinstance(recorded, list | tuple | None):
        raise ValueError(f"this run cannot be repeated, for its interventions are {comment(recorded)}: give file=")
    calls: list[str] = []
    for intervention in recorded or []:
        match intervention:
            case {"kind": "weight", "word": str(word), "factor": _}:
                factor = _checked(intervention, "factor", int, float)
                calls.append(call("dv.intervene.weight", word, factor, **_steps_argument(intervention)))
            case {"kind": "drop", "word": str(word)}:
                calls.append(call("dv.intervene.drop", word, **_steps_argument(intervention)))
            case {"kind": "switch", "prompt": str(prompt), "step": step} if is_whole(step):
                calls.append(call("dv.intervene.switch", prompt, step))
            case _:
                raise ValueError("this run used the attention of another one: give file=, where it is saved")
    return calls


def _steps_argument(intervention: Mapping[str, Any]) -> dict[str, Any]:
    """The keyword argument ``steps`` of an intervention; none where it applies to all steps."""
    match intervention.get("steps"):
        case None | [0, None]:
            return {}
        case [first, last] if is_whole(first) and (last is None or is_whole(last)):
            return {"steps": (first, last)}
        case steps:
            raise ValueError(f"this run cannot be repeated, for an intervention has steps {steps!r}: give file=")
