"""When was a word of the run decided? The page asks, `dv.decision_curve` finds out, with the settings of that run."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from diffvis_widget.widget.session.jobs import Perform, Result, Task, Tell
from diffvis_widget.wire.packed_run import json_number, json_numbers

if TYPE_CHECKING:
    from diffvis_widget.intervene import DecisionCurve
    from diffvis_widget.widget.session.run import Run
    from diffvis_widget.widget.session.session import Session

SEEDS = 32  # at most
POINTS = 16  # of the curve, so that it is there soon: of 30 steps every other one
BATCH = 4  # pictures at once, of models that may be large


def prepare(session: Session, task: Task) -> Perform:
    """The work {"kind": "decision", "run", "word", "to", "seeds"}; what it finds is kept with the run.

    Raises:
        LookupError, ValueError: it cannot be found out; the message says why.
    """
    word, to, seeds = task.get("word"), task.get("to"), task.get("seeds")
    if not isinstance(word, str) or not isinstance(to, str):
        raise ValueError("word and to must be texts")
    if not to.strip():
        raise ValueError(f"Type what takes the place of {word}")
    if not isinstance(seeds, int) or isinstance(seeds, bool) or not 1 <= seeds <= SEEDS:
        raise ValueError(f"seeds must be a whole number from 1 to {SEEDS}, not {seeds!r}")
    if session.pipe is None:
        raise ValueError(
            "This is a recorded run without a pipeline: dv.DiffVis(pipe) can find out when words are decided"
        )
    run = session.history.find(str(task.get("run")))
    if run.request is None:
        raise ValueError(
            "The notebook's own call made this run, with arguments of its own: ask dv.decision_curve there"
        )
    if run.request.present_weights:
        raise ValueError("Words of this run are weighed, and an exchange has no weights: run it again without them")

    def perform(tell: Tell) -> Result:
        curve = _curve(session, run, word.strip(), to.strip(), seeds, tell)
        found = told(curve, run)
        same = ("word", "to")
        run.decisions = [*(one for one in run.decisions if any(one[key] != found[key] for key in same)), found]
        return Result(found)

    return perform


def _curve(session: Session, run: Run, word: str, to: str, seeds: int, tell: Tell) -> DecisionCurve:
    from diffvis_widget.intervene import decision_curve
    from diffvis_widget.scenes import is_scenes
    from diffvis_widget.schedule import pipeline_arguments

    request, pipe = run.request, session.pipe
    assert request is not None  # prepare saw to it
    meter = session.publisher.scorer.meter()
    if meter is None:
        raise ValueError(
            'Nothing measures the pictures of this model: make the widget with meter=dv.ConceptMeter("ViT-B-32", ...)'
        )
    points = points_of(request.steps)
    batch = POINTS if is_scenes(pipe) else BATCH
    total = seeds * len(points)
    done = 0

    def progress(finished: int, of: int) -> None:
        nonlocal done
        done = finished
        tell(finished / of)

    def step_ended(_: Any, step: int, *__: Any) -> dict[str, Any]:
        part = points[done % len(points) :][:batch]
        tell((done + len(part) * _spent(part, step, request.steps)) / total)
        return {}

    takes = inspect.signature(type(pipe).__call__).parameters
    call: dict[str, Any] = {
        **session.arguments,
        **pipeline_arguments(pipe.scheduler, request.schedule, request.steps, request.schedule_strength),
    }
    call.pop("num_inference_steps", None)  # decision_curve gives it
    optional = {
        "guidance_scale": request.guidance_scale,
        "negative_prompt": request.negative_prompt or None,
        "callback_on_step_end": step_ended,
    }
    call |= {name: value for name, value in optional.items() if name in takes and value is not None}
    return decision_curve(
        pipe,
        request.prompt,
        word,
        to,
        steps=request.steps,
        seeds=range(request.seed, request.seed + seeds),
        switch=points,
        meter=meter,
        batch=batch,
        progress=progress,
        **call,
    )


def points_of(steps: int) -> list[int]:
    """The steps to switch at: all of them, or POINTS from the first to the last."""
    return [round(float(point)) for point in np.linspace(0, steps, min(steps + 1, POINTS))]


def _spent(points: Sequence[int], step: int, steps: int) -> float:
    """The part of a batch's work that is done after a step: rows that are not switched yet are one."""
    rows = [sum(point <= one for point in points) + any(point > one for point in points) for one in range(steps)]
    return sum(rows[: step + 1]) / sum(rows)


def told(curve: DecisionCurve, run: Run) -> dict[str, Any]:
    """A curve for the page; numbers that are not known are None."""
    return {
        "run": run.id,
        "word": curve.word,
        "to": curve.to,
        "steps": curve.steps,
        "switch": curve.switch.tolist(),
        "seeds": len(curve.seeds),
        "mean": json_numbers(curve.mean),
        "band": [json_numbers(row) for row in curve.band],
        "shares": [json_numbers(row) for row in curve.share],
        "decision": json_number(curve.decision, 4),
        "interval": [json_number(one, 4) for one in curve.interval],
    }
