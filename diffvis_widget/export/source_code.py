"""The Python that makes a run, and a figure of it, again."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Unpack

from diffvis_widget.shipped import is_scenes_model

from .view_options import OPACITY, Shown, checked_size, look

if TYPE_CHECKING:
    from diffvis_widget.traces import Trace

PathLike = str | os.PathLike[str]


def code(
    trace: Trace,
    *,
    step: int | None = None,
    size: int = 512,
    file: PathLike | None = None,
    out: str = "view.png",
    **shown: Unpack[Shown],
) -> str:
    """The Python that makes the same picture as `png` with these arguments, as text; `Shown` has what is not said here.

    file: where the trace is saved; the code then opens it. Without one it makes the run again, which needs its seed
    and gives the same picture on the same machine; for a model other than the built-in one a line is left for you to
    fill in. A method's map is then computed again too, as `dv.explain.overlay` does it. out: the name of the file that
    the code writes.

    Raises what `png` raises, and ValueError for a run that cannot be made again: its seed is not known, or it looked
    where another run did; and for a map that is given in place of a method's name.
    """
    looked, method = look(trace, step, **shown), shown.get("saliency")
    if method is not None and not isinstance(method, str):
        raise ValueError(f"code takes a method by its name, as in saliency={method.method!r}")
    region = None if looked.region is None else list(looked.region)
    given: list[tuple[str, Any, Any]] = [
        ("step", looked.step, None),
        ("words", list(looked.words), []),
        ("view", looked.view, "prediction"),
        ("layer", looked.layer, None),
        ("head", looked.head, None),
        ("saliency", method, None),
        ("opacity", looked.opacity, OPACITY),
        ("contours", looked.contours, False),
        ("shared", bool(shown.get("shared")), False),
        ("region", region, None),
        ("size", checked_size(size), 512),
    ]
    arguments = [f"{name}={value!r}" for name, value, plain in given if value != plain]
    laid = ""
    if method is not None and file is None:
        laid = f"trace.saliency.append(dv.explain.overlay(trace, {looked.step}, {method!r}))\n"
    return f"{source(trace, file)}{laid}dv.export.png({', '.join(['trace', repr(out), *arguments])})\n"


def source(trace: Trace, file: PathLike | None = None) -> str:
    """The Python that gives this trace; see `code`, whose beginning it is."""
    lines = ["import diffvis_widget as dv", ""]
    lines += _run_again(trace) if file is None else [f"trace = dv.open_trace({os.fspath(file)!r})"]
    return "\n".join(lines) + "\n"


def _run_again(trace: Trace) -> list[str]:
    meta = trace.meta
    if not isinstance(meta.get("seed"), int):
        raise ValueError("the seed of this run is not known, so it cannot be made again: give file=, where it is saved")
    is_scenes = is_scenes_model(meta.get("fingerprint"))
    pipe = "pipe = dv.load()"
    if not is_scenes:
        pipe = (
            f"pipe = dv.load(...)  # the {meta.get('pipeline', 'pipeline')} with fingerprint {meta.get('fingerprint')}"
        )
    given: dict[str, Any] = {
        "seed": meta["seed"],
        "num_inference_steps": _asked_steps(trace),
        "guidance_scale": meta.get("guidance_scale"),
        "negative_prompt": trace.negative_prompt,
        "schedule": meta.get("schedule"),
        "schedule_strength": meta.get("schedule_strength"),
        "height": None if is_scenes else trace.image.shape[0],
        "width": None if is_scenes else trace.image.shape[1],
        "keep": None if trace.keep == "layers" else trace.keep,  # what is kept is rounded: another keep, other digits
    }
    arguments = [f"    {name}={value!r}," for name, value in given.items() if value is not None]
    if changes := _interventions(meta.get("interventions")):
        arguments.append(f"    interventions=[{', '.join(changes)}],")
    return [pipe, "trace = dv.trace(", "    pipe,", f"    {trace.prompt!r},", *arguments, ")"]


def _interventions(told: Any) -> list[str]:
    found: list[str] = []
    for one in told or []:
        match one:
            case {"kind": "weight", "word": word, "factor": factor}:
                found.append(f"dv.intervene.weight({word!r}, {factor!r}{_span(one)})")
            case {"kind": "drop", "word": word}:
                found.append(f"dv.intervene.drop({word!r}{_span(one)})")
            case {"kind": "switch", "prompt": prompt, "step": step}:
                found.append(f"dv.intervene.switch({prompt!r}, {step!r})")
            case _:
                raise ValueError("this run looked where another one did: give file=, where it is saved")
    return found


def _span(one: dict[str, Any]) -> str:
    steps = one.get("steps")
    return "" if steps in (None, [0, None]) else f", steps={tuple(steps)!r}"


def _asked_steps(trace: Trace) -> int:
    """The number of steps that was asked for; a scheduler of second order evaluates the denoiser more often."""
    planned = trace.meta.get("planned_steps")
    if not trace.is_complete and isinstance(planned, int):
        return planned
    return sum(not step.second_order for step in trace.steps)
