"""When a word of a run was decided: `dv.decision_curve` with the settings of that run, for the page."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from diffvis_widget.widget.session.jobs import JobFunction, JobResult, ReportProgress, Task
from diffvis_widget.widget.session.sampling import sample
from diffvis_widget.wire import images
from diffvis_widget.wire.packed_run import Message, json_number, json_numbers

if TYPE_CHECKING:
    from diffvis_widget.intervene import DecisionCurve
    from diffvis_widget.traces import Record, Step, Trace
    from diffvis_widget.widget.session.run import Run
    from diffvis_widget.widget.session.session import Session
    from diffvis_widget.wire.messages import RunRequest

MAX_SEEDS = 32
POINTS = 16  # of a curve, so that it is there soon: of 30 steps every other one
IMAGE_SIZE = 256  # pixels of the longest side of an image of a curve
BATCH = 4  # images at once, for models that may be large


def prepare_decision(session: Session, task: Task) -> JobFunction:
    """Prepare the job that computes a decision curve, which is kept with the run.

    Args:
        session: the session of the widget.
        task: ``run`` is an id, ``word`` a word of its prompt, ``to`` what replaces it, ``seeds`` how many, 1 to 32.

    Returns:
        The job.

    Raises:
        ValueError: the curve cannot be computed; the message says why.
    """
    word, to, seeds = task.get("word"), task.get("to"), task.get("seeds")
    if not isinstance(word, str) or not isinstance(to, str):
        raise ValueError("word and to must be texts")
    if not to.strip():
        raise ValueError(f"Type what takes the place of {word}")
    if not isinstance(seeds, int) or isinstance(seeds, bool) or not 1 <= seeds <= MAX_SEEDS:
        raise ValueError(f"seeds must be a whole number from 1 to {MAX_SEEDS}, not {seeds!r}")
    if session.pipe is None:
        raise ValueError(
            "This is a recorded run without a pipeline: dv.DiffVis(pipe) can find out when words are decided"
        )
    run = session.history.find(str(task.get("run")))
    if run.request is None:
        raise ValueError("The notebook's own call made this run, with its own arguments: call dv.decision_curve there")
    if run.request.present_weights:
        raise ValueError("Words of this run have weights, and an exchange has none: run it again without them")

    def perform(report: ReportProgress) -> JobResult:
        _check_first_step(session, run)
        curve, film = _compute(session, run, word.strip(), to.strip(), seeds, report)
        decision = Message({**curve_content(curve, run), "images": len(film)}, tuple(film))

        def pair(of: Message) -> tuple[str, str]:
            return of.content["word"], of.content["to"]

        run.decisions = [*(other for other in run.decisions if pair(other) != pair(decision)), decision]
        return JobResult(decision.content, decision.buffers)

    return perform


class _FirstStepMadeError(Exception):
    """Ends the run that `_check_first_step` begins."""


def _check_first_step(session: Session, run: Run) -> None:
    """Raise ValueError unless the run, made again, begins as it was recorded: a curve would be of another run."""
    request, recorded = run.request, run.trace
    if request is None or recorded is None or not recorded.records:
        return
    repeated: list[Record] = []

    def end(trace: Trace, _: Step) -> None:
        repeated.append(trace.records[0])
        raise _FirstStepMadeError

    with contextlib.suppress(_FirstStepMadeError):
        sample(session.pipe, request, dict(session.arguments), end)
    first, again = recorded.records[0], repeated[0]
    if not (_is_close(first.latents, again.latents) and _is_close(first.prediction, again.prediction)):
        raise ValueError(
            "Made again, this run has another first step than the recorded one: the pipeline, its scheduler or its "
            "weights were changed since. Run it again, then compute the curve"
        )


def _is_close(first: NDArray[Any], second: NDArray[Any]) -> bool:
    """Whether arrays differ by rounding only."""
    if first.shape != second.shape:
        return False
    a, b = first.astype(np.float32), second.astype(np.float32)
    return bool(np.allclose(a, b, rtol=0, atol=0.02 * max(float(np.nanstd(a)), 1e-6), equal_nan=True))


def _compute(
    session: Session, run: Run, word: str, to: str, seeds: int, report: ReportProgress
) -> tuple[DecisionCurve, list[bytes]]:
    """The curve, and the final images of the run's own seed as WebP, one for each step of the switch."""
    from diffvis_widget.intervene import decision_curve
    from diffvis_widget.scenes import is_scenes

    request, pipe = run.request, session.pipe
    assert request is not None  # see prepare_decision
    meter = session.publisher.scorer.meter()
    if meter is None:
        raise ValueError(
            'Nothing measures the images of this model: make the widget with meter=dv.ConceptMeter("ViT-B-32", ...)'
        )
    steps = request.steps or run.steps
    points = points_of(steps)
    batch = POINTS if is_scenes(pipe) else BATCH
    total = seeds * len(points)
    done = 0
    film: list[bytes] = []

    def keep_image(seed: int, _: int, image: NDArray[np.uint8]) -> None:
        if seed == request.seed:
            film.append(images.webp(image, IMAGE_SIZE))

    def progress(finished: int, of: int) -> None:
        nonlocal done
        done = finished
        report(finished / of)

    def step_ended(_: Any, step: int, *__: Any) -> dict[str, Any]:
        part = points[done % len(points) :][:batch]
        report((done + len(part) * _finished_share(part, step, steps)) / total)
        return {}

    curve = decision_curve(
        pipe,
        request.prompt,
        word,
        to,
        steps=steps,
        seeds=range(request.seed, request.seed + seeds),
        switch=points,
        meter=meter,
        batch=batch,
        progress=progress,
        on_image=keep_image,
        **_call_arguments(session, request, step_ended),
    )
    return curve, film


def _call_arguments(session: Session, request: RunRequest, step_ended: Callable[..., dict[str, Any]]) -> dict[str, Any]:
    """The arguments of the run's pipeline call, without those that decision_curve sets.

    step_ended: the call's callback_on_step_end, for pipelines that take one.
    """
    from diffvis_widget.schedule import pipeline_arguments

    scheduler = session.pipe.scheduler
    schedule = pipeline_arguments(scheduler, request.schedule, request.steps, request.schedule_strength)
    call = {**session.arguments, **schedule}
    call.pop("num_inference_steps", None)
    takes = inspect.signature(type(session.pipe).__call__).parameters
    optional = {
        "guidance_scale": request.guidance_scale,
        "negative_prompt": request.negative_prompt or None,
        "callback_on_step_end": step_ended,
    }
    return call | {name: value for name, value in optional.items() if name in takes and value is not None}


def points_of(steps: int) -> list[int]:
    """The steps at which a curve switches the prompt.

    Args:
        steps: number of steps of the run.

    Returns:
        All steps from 0 to ``steps``, or 16 of them, evenly spread.
    """
    return [round(float(point)) for point in np.linspace(0, steps, min(steps + 1, POINTS))]


def _finished_share(points: Sequence[int], step: int, steps: int) -> float:
    """The share of a batch's work that is done after a step: rows that are not switched yet are computed once."""
    rows = [sum(point <= at for point in points) + any(point > at for point in points) for at in range(steps)]
    return sum(rows[: step + 1]) / sum(rows)


def curve_content(curve: DecisionCurve, run: Run) -> dict[str, Any]:
    """A decision curve as JSON data; numbers that are not known are None.

    Args:
        curve: the curve.
        run: the run whose settings it has.

    Returns:
        A JSON object.
    """
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
        "interval": [json_number(bound, 4) for bound in curve.interval],
        "agreeing": curve.agreeing,
    }
