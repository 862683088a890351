"""Decision curves of the run on the page."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from diffusers import EulerDiscreteScheduler, StableDiffusionPipeline
from PIL import Image

from diffvis_widget.intervene import DecisionCurve, decision_curve
from diffvis_widget.traces import Trace
from diffvis_widget.widget.page import decision
from tests import pipelines
from tests.traces.build import make_trace
from tests.widget.conftest import SECONDS, Gate, page
from tests.widget.session.test_scoring import ColourMeter

Make = Callable[..., Any]
PROMPT = "a red circle"
BLUE = {"kind": "decision", "word": "red", "to": "blue", "seeds": 2}


def run_of(widget: Any) -> str:
    return widget._session.history.runs[-1].id


def ask(widget: Any, task: dict[str, Any], kind: str = "job") -> dict[str, Any]:
    page(widget, {"type": kind, "id": 1, "task": {"run": run_of(widget), **task}})
    return widget.wire.messages[-1].content


def until_over(widget: Any, task: dict[str, Any]) -> dict[str, Any]:
    pause = threading.Event()
    while (reply := ask(widget, task))["state"] in ("waiting", "running"):
        pause.wait(0.01)
    return reply


def stored_curves(widget: Any) -> list[dict[str, Any]]:
    page(widget, {"type": "decisions", "id": 2, "run": run_of(widget)})
    return widget.wire.messages[-1].content["decisions"]


def test_the_curve_is_that_of_dv_decision_curve(make: Make, shared_pipe: StableDiffusionPipeline) -> None:
    widget = make(shared_pipe, prompt=PROMPT, seed=5, steps=3, guidance_scale=3.0, meter=ColourMeter())
    assert widget.wait(SECONDS)
    assert stored_curves(widget) == []
    done = until_over(widget, BLUE)
    assert done["state"] == "done"
    meter: Any = ColourMeter()
    expected = decision_curve(
        shared_pipe, PROMPT, "red", "blue", steps=3, seeds=[5, 6], meter=meter, guidance_scale=3.0, progress=False
    )
    np.testing.assert_allclose(done["shares"], expected.share, atol=1e-4)
    np.testing.assert_allclose(done["mean"], expected.mean, atol=1e-4)
    np.testing.assert_allclose(done["band"], expected.band, atol=1e-4)
    assert (done["switch"], done["steps"], done["seeds"]) == ([0, 1, 2, 3], 3, 2)
    assert done["decision"] is None  # colours that differ by so little cannot be told apart
    assert done["interval"] == [None, None]
    (stored,) = stored_curves(widget)
    assert stored.items() <= done.items()


def test_the_images_of_the_runs_own_seed_come_with_the_curve(make: Make, shared_pipe: StableDiffusionPipeline) -> None:
    widget = make(shared_pipe, prompt=PROMPT, seed=5, steps=3, guidance_scale=3.0, meter=ColourMeter())
    trace: Trace = widget.trace
    assert until_over(widget, BLUE)["images"] == 4
    film = widget.wire.messages[-1].buffers
    until_over(widget, {**BLUE, "to": "green", "seeds": 1})
    assert [curve["images"] for curve in stored_curves(widget)] == [4, 4]
    assert widget.wire.messages[-1].buffers[:4] == film
    decoded = [np.asarray(Image.open(io.BytesIO(image)), np.int16) for image in film]
    expected: dict[tuple[int, int], Any] = {}
    meter: Any = ColourMeter()
    decision_curve(
        shared_pipe, PROMPT, "red", "blue", steps=3, seeds=[5], meter=meter, guidance_scale=3.0, progress=False,
        on_image=lambda seed, step, image: expected.update({(seed, step): image}),
    )  # fmt: skip
    assert list(expected) == [(5, step) for step in range(4)]
    for step, image in enumerate(decoded):
        assert np.abs(image - expected[5, step]).max() <= 1  # rows of a larger batch round otherwise
    assert np.abs(decoded[-1] - trace.image).max() <= 1  # never replaced


def test_the_settings_are_those_of_the_run(make: Make) -> None:
    """The run that was never switched is the run that is shown."""
    pipe = pipelines.stable_diffusion()
    pipe.scheduler = EulerDiscreteScheduler.from_config(pipe.scheduler.config)
    settings = {"seed": 2, "steps": 5, "guidance_scale": 4.0, "negative_prompt": "dark", "schedule": "early"}
    widget = make(pipe, prompt=PROMPT, meter=ColourMeter(), **settings)
    trace: Trace = widget.trace
    done = until_over(widget, {**BLUE, "seeds": 1})
    assert done["error"] == ""
    meter: Any = ColourMeter()
    expected = meter.share(meter.scores(trace.image[None], ["red", "blue"])[0])[0, 0]
    assert done["shares"][0][-1] == pytest.approx(expected, abs=1e-4)
    plain = decision_curve(
        pipe, PROMPT, "red", "blue", steps=5, seeds=[2], switch=[5], meter=meter, guidance_scale=4.0, progress=False
    )
    assert abs(float(plain.share[0, 0]) - expected) > 1e-5  # the schedule and the negative prompt matter


def test_each_pair_is_stored_once_with_its_run(make: Make, shared_pipe: StableDiffusionPipeline) -> None:
    widget = make(shared_pipe, prompt=PROMPT, steps=2, meter=ColourMeter())
    assert widget.wait(SECONDS)
    green = {**BLUE, "to": "green", "seeds": 1}
    for task in (BLUE, green, {**BLUE, "seeds": 1}):
        assert until_over(widget, task)["state"] == "done"
    assert [(curve["word"], curve["to"], curve["seeds"]) for curve in stored_curves(widget)] == [
        ("red", "green", 1),
        ("red", "blue", 1),
    ]
    widget.prompt = "a blue circle"
    widget.run()
    assert widget.wait(SECONDS)
    assert stored_curves(widget) == []


def test_long_runs_are_switched_at_a_few_steps_only() -> None:
    assert decision.points_of(3) == [0, 1, 2, 3]
    assert decision.points_of(decision.POINTS - 1) == list(range(decision.POINTS))
    assert decision.points_of(30) == list(range(0, 31, 2))
    points = decision.points_of(1000)
    assert (len(points), points[0], points[-1]) == (decision.POINTS, 0, 1000)


def test_progress_is_reported_and_cancelling_takes_one_step(
    make: Make, pipe: StableDiffusionPipeline, gate: Gate
) -> None:
    gate.open = True
    widget = make(pipe, prompt=PROMPT, steps=4, meter=ColourMeter())
    assert widget.wait(SECONDS)
    while gate.arrived.acquire(blocking=False):
        pass
    gate.open, gate.calls = False, 0
    assert ask(widget, BLUE)["state"] in ("waiting", "running")
    gate.until_held()
    gate.let(1)  # the run's first step, compared with the recorded one
    gate.let(1)
    first = ask(widget, BLUE)["progress"]
    gate.let(2)
    later = ask(widget, BLUE)["progress"]
    assert 0 < first < later < 0.5  # of two seeds the first
    ask(widget, BLUE, "cancel")
    gate.let_all()
    assert until_over(widget, BLUE)["state"] == "canceled"
    assert gate.calls == 5
    assert stored_curves(widget) == []


def test_progress_follows_the_rows_that_are_computed() -> None:
    # switched at 0, 1 and 3 of 3 steps: 2, 3 and 3 rows
    assert [decision._finished_share([0, 1, 3], step, 3) for step in range(3)] == [2 / 8, 5 / 8, 1]


@pytest.mark.parametrize(
    ("task", "message"),
    [
        ({"to": "  "}, "Type what takes the place of red"),
        ({"to": 3}, "must be texts"),
        ({"seeds": 0}, "from 1 to 32, not 0"),
        ({"seeds": True}, "from 1 to 32"),
        ({"run": "gone"}, "not in the kernel any more"),
    ],
)
def test_an_impossible_task_is_refused(
    make: Make, shared_pipe: StableDiffusionPipeline, task: dict[str, Any], message: str
) -> None:
    widget = make(shared_pipe, prompt=PROMPT, steps=1, meter=ColourMeter())
    assert widget.wait(SECONDS)
    refused = ask(widget, {**BLUE, **task})
    assert refused["type"] == "error"
    assert message in refused["message"]


@pytest.mark.parametrize(
    ("task", "message"),
    [
        ({"word": "cat"}, "word 'cat' is not in the prompt; its words are: 'a', 'red', 'circle'"),
        ({"to": "Red"}, "to must differ from word"),
    ],
)
def test_a_curve_that_cannot_be_computed_says_why(
    make: Make, shared_pipe: StableDiffusionPipeline, task: dict[str, Any], message: str
) -> None:
    widget = make(shared_pipe, prompt=PROMPT, steps=1, meter=ColourMeter())
    assert widget.wait(SECONDS)
    failed = until_over(widget, {**BLUE, **task})
    assert failed["state"] == "failed"
    assert message in failed["error"]


def test_without_a_meter_it_says_what_to_do(make: Make, shared_pipe: StableDiffusionPipeline) -> None:
    widget = make(shared_pipe, prompt=PROMPT, steps=1)
    assert widget.wait(SECONDS)
    assert "make the widget with meter=" in until_over(widget, BLUE)["error"]


def test_weighted_and_recorded_runs_are_refused(make: Make, shared_pipe: StableDiffusionPipeline) -> None:
    widget = make(shared_pipe, prompt=PROMPT, steps=1, meter=ColourMeter(), weights={"red": 2.0})
    assert widget.wait(SECONDS)
    assert "run it again without them" in ask(widget, BLUE)["message"]
    recorded = make(make_trace(steps=2))
    assert recorded.wait(SECONDS)
    assert "recorded run without a pipeline" in ask(recorded, BLUE)["message"]


def test_a_decision_and_its_interval_are_in_the_reply() -> None:
    share = np.array([[0, 0, 1], [0, 0.75, 1], [0, 0, 1], [0, 0, 1], [0, 0.25, 1]], np.float32)
    cosine = np.stack([share, 1 - share], axis=-1)
    curve = DecisionCurve(
        *("a red circle", "a blue circle", "red", "blue", 4),
        *(np.array([0, 2, 4]), np.arange(5), ["red", "blue"], cosine, share),
    )
    run: Any = type("Run", (), {"id": "r"})
    reply = decision.curve_content(curve, run)
    assert reply["decision"] == pytest.approx(curve.decision, abs=1e-4)
    assert reply["interval"] == pytest.approx(list(curve.interval), abs=1e-4)
    assert reply["interval"][0] < reply["decision"] < reply["interval"][1]
    assert reply["agreeing"] == curve.agreeing == 4


def test_a_curve_of_a_run_that_begins_otherwise_now_is_refused(make: Make, pipe: StableDiffusionPipeline) -> None:
    widget = make(pipe, prompt=PROMPT, seed=5, steps=3, guidance_scale=3.0, meter=ColourMeter())
    assert widget.wait(SECONDS)
    scheduler = pipe.scheduler
    pipe.scheduler = EulerDiscreteScheduler.from_config(scheduler.config)
    reply = until_over(widget, BLUE)
    assert reply["state"] == "failed"
    assert "another first step than the recorded one" in reply["error"]
    pipe.scheduler = scheduler
    next(pipe.unet.parameters()).data.mul_(1.5)
    assert "weights were changed since" in until_over(widget, {**BLUE, "to": "green"})["error"]
    assert stored_curves(widget) == []
