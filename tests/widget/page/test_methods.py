"""The explaining methods for the page: maps and relevance as Python computes them, kept, stopped, refused."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import traitlets
from diffusers import DPMSolverMultistepScheduler, StableDiffusionPipeline

from diffvis_widget import Tracer, explain, open_trace
from diffvis_widget.traces import Saliency, WordRelevance
from diffvis_widget.widget.widget import DiffVis
from diffvis_widget.wire.packed_run import Message, dequantise
from tests.widget.conftest import PROMPT, page

Make = Callable[..., Any]
STEPS = 3


@pytest.fixture
def widget(make: Make, shared_pipe: StableDiffusionPipeline) -> Any:
    widget = make(shared_pipe, prompt=PROMPT, seed=7, steps=STEPS)
    _ = widget.trace
    return widget


def ask(widget: Any, **question: Any) -> Message:
    page(widget, {"id": 9, **question})
    return next(message for message in reversed(widget.wire.messages) if message.content.get("id") == 9)


def work(widget: Any, **task: Any) -> Message:
    """The answer to a work, once it is over."""
    request = {"type": "job", "task": {"run": widget._outbox.run, **task}}
    reply, pause = ask(widget, **request), threading.Event()
    while reply.content["type"] == "job" and reply.content["state"] in ("waiting", "running"):
        pause.wait(0.01)
        reply = ask(widget, **request)
    return reply


def maps_in(message: Message) -> dict[tuple[str, int], np.ndarray]:
    maps, offset = {}, 0
    for entry in message.content["maps"]:
        height, width = entry["grid"]
        data = message.buffers[0][offset : offset + height * width]
        maps[entry["method"], entry["step"]] = dequantise(data, (1, height, width), [entry["scale"]])[0]
        offset += height * width
    assert offset == len(message.buffers[0])
    return maps


def close(values: np.ndarray, expected: np.ndarray) -> bool:
    return float(np.abs(values - expected).max()) <= 1.01 * float(np.ptp(expected)) / 510


def test_the_page_gets_the_registered_methods(widget: Any) -> None:
    reply = ask(widget, type="saliency", run=widget._outbox.run)
    assert [row["name"] for row in reply.content["methods"]] == [method.name for method in explain.registered_methods()]
    assert all(row["label"] and row["caption"] and row["finding"] for row in reply.content["methods"])


def test_a_map_is_the_methods_and_the_trace_keeps_it(widget: Any) -> None:
    answer = work(widget, kind="saliency", step=1, method="df_cam")
    assert (answer.content["type"], answer.content["state"]) == ("job", "done")
    assert answer.content["took"] > 0  # the estimate for the next one
    expected = explain.df_cam(widget.trace, 1)
    assert close(maps_in(answer)["df_cam", 1], expected.map)
    (saliency,) = widget.trace.saliency
    assert (saliency.method, saliency.step) == ("df_cam", 1)
    np.testing.assert_array_equal(saliency.map, expected.map)


def test_a_map_that_the_trace_has_is_not_computed_again(widget: Any) -> None:
    saliency = Saliency("df_rise", 2, np.arange(6, dtype=np.float32).reshape(2, 3))
    widget.trace.saliency.append(saliency)
    answer = work(widget, kind="saliency", step=2, method="df_rise")
    np.testing.assert_allclose(maps_in(answer)["df_rise", 2], saliency.map, atol=0.01)
    assert answer.content["took"] is None
    assert widget.trace.saliency == [saliency]


def test_the_page_asks_for_all_that_the_trace_has_and_gets_the_newest(widget: Any, tmp_path: Path, make: Make) -> None:
    size = widget.trace.latents.shape[2:]
    old, new, flat = (np.full(size, value, dtype=np.float32) for value in (1, 2, 3))
    new[0, 0] = 5
    maps = [Saliency("df_cam", 0, old), Saliency("df_lime", 1, flat), Saliency("df_cam", 0, new)]
    widget.trace.saliency.extend(maps)
    widget.trace.save(tmp_path / "run.safetensors")
    recorded = make(open_trace(tmp_path / "run.safetensors"))
    assert recorded.wait(30)
    for shown in (widget, recorded):
        stored_maps = maps_in(ask(shown, type="saliency", run=shown._outbox.run))
        assert set(stored_maps) == {("df_cam", 0), ("df_lime", 1)}
        np.testing.assert_allclose(stored_maps["df_cam", 0], new, atol=0.01)
        np.testing.assert_array_equal(stored_maps["df_lime", 1], flat)


def test_a_map_that_is_stopped_leaves_nothing(widget: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    going, task = threading.Event(), {"kind": "saliency", "run": widget._outbox.run, "step": 0, "method": "df_rise"}
    overlay = explain.overlay

    def slowly(*arguments: Any, progress: Callable[[float], None], **options: Any) -> Saliency:
        def tell(share: float) -> None:
            progress(share)
            if share > 0:
                going.set()
                while True:  # until it is stopped
                    progress(share)

        return overlay(*arguments, progress=tell, **options)

    monkeypatch.setattr(explain, "overlay", slowly)
    ask(widget, type="job", task=task)
    assert going.wait(30)
    reply = ask(widget, type="job", task=task).content
    assert reply["state"] == "running"
    assert 0 < reply["progress"] < 1
    ask(widget, type="cancel", task=task)
    assert work(widget, kind="saliency", step=0, method="df_rise").content["state"] == "canceled"
    assert widget.trace.saliency == []


def test_seconds_are_estimated_for_every_method(widget: Any) -> None:
    seconds = work(widget, kind="estimates").content["seconds"]
    assert list(seconds) == [method.name for method in explain.registered_methods()]
    assert seconds["df_cam"] > 0
    assert seconds["df_rise"] / seconds["df_lime"] == pytest.approx(110 / 300)


@pytest.mark.parametrize(
    ("task", "says"),
    [
        (
            {"kind": "saliency", "step": 3, "method": "df_cam"},
            "the indices of this run's steps are 0 to 2",
        ),
        ({"kind": "saliency", "step": -1, "method": "df_cam"}, "out of range"),
        ({"kind": "saliency", "step": "1", "method": "df_cam"}, "out of range"),
        (
            {"kind": "saliency", "step": 0, "method": "shap"},
            "method must be one of 'df_rise', 'smooth_rise'",
        ),
        ({"kind": "saliency", "step": 0, "method": "df_cam", "run": "gone"}, "not in the kernel any more"),
        ({"kind": "estimates", "run": "gone"}, "not in the kernel any more"),
        ({"kind": "relevance", "schedule": "often"}, "schedule must be one of uniform, early, late, not 'often'"),
        ({"kind": "relevance", "schedule": "", "run": "gone"}, "not in the kernel any more"),
    ],
)
def test_what_cannot_be_asked_is_refused(widget: Any, task: dict[str, Any], says: str) -> None:
    answer = work(widget, **task).content
    assert answer["type"] == "error"
    assert says in answer["message"]


@pytest.mark.parametrize(
    "task",
    [
        {"kind": "saliency", "step": 0, "method": "df_cam"},
        {"kind": "estimates"},
        {"kind": "relevance", "schedule": ""},
        {"kind": "relevance", "schedule": "early"},
    ],
    ids=str,
)
def test_a_run_from_a_file_has_no_model_and_says_so(
    widget: Any, make: Make, tmp_path: Path, task: dict[str, Any]
) -> None:
    widget.trace.save(tmp_path / "run.safetensors")
    recorded = make(open_trace(tmp_path / "run.safetensors"))
    assert recorded.wait(30)
    answer = work(recorded, **task).content
    assert answer["state"] == "failed"
    assert "file" in answer["error"]


def test_a_changed_model_says_so(make: Make, pipe: StableDiffusionPipeline) -> None:
    widget = make(pipe, prompt=PROMPT, seed=7, steps=STEPS)
    _ = widget.trace
    weight = next(pipe.unet.parameters())
    weight.data += 0.1
    answer = work(widget, kind="saliency", step=0, method="df_cam").content
    assert answer["state"] == "failed"
    assert "weights have been changed since this trace was made" in answer["error"]
    assert widget.trace.saliency == []


def test_relevance_is_that_of_the_run_and_computed_once(widget: Any, shared_pipe: Any) -> None:
    answer = work(widget, kind="relevance", schedule="").content
    expected = explain.relevance_of(shared_pipe, widget.trace, progress=False)
    typed = [index for index, word in enumerate(widget.trace.words) if word.kind == "word"]
    assert (answer["state"], answer["schedule"], answer["words"]) == ("done", "uniform", typed)
    np.testing.assert_allclose(answer["raw"], expected.raw[:, typed], rtol=1e-3)
    np.testing.assert_allclose(answer["scaled"], expected.scaled[:, typed], rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(answer["timesteps"], widget.trace.timesteps, atol=0.01)
    calls: list[int] = []
    handle = shared_pipe.unet.register_forward_pre_hook(lambda *_: calls.append(1))
    try:
        assert work(widget, kind="relevance", schedule="uniform").content["raw"] == answer["raw"]
    finally:
        handle.remove()
    assert not calls
    (relevance,) = widget.trace.relevance
    np.testing.assert_array_equal(relevance.raw, expected.raw)
    np.testing.assert_array_equal(relevance.maps, expected.maps)


@pytest.mark.parametrize("compact", [False, True])
def test_relevance_of_a_file_is_told_and_needs_no_model(widget: Any, make: Make, tmp_path: Path, compact: bool) -> None:
    computed = work(widget, kind="relevance", schedule="").content
    raw = widget.trace.relevance[0].raw
    widget.trace.relevance += [
        WordRelevance("late", np.array([9, 1], "f4"), raw[:2]),
        WordRelevance("late", np.array([8, 1], "f4"), raw[1:]),
    ]
    widget.trace.save(tmp_path / "run", compact=compact)
    recorded = make(open_trace(tmp_path / "run"))
    assert recorded.wait(30)
    first, late = ask(recorded, type="relevance", run=recorded._outbox.run).content["curves"]
    assert first == {
        name: computed[name] for name in ("schedule", "own_schedule", "words", "timesteps", "raw", "scaled")
    }
    assert (late["schedule"], late["own_schedule"], late["timesteps"], late["raw"]) == (
        "late",
        "uniform",
        [8, 1],
        first["raw"][1:],
    )
    for schedule, curves in (("", first), ("uniform", first), ("late", late)):
        answer = work(recorded, kind="relevance", schedule=schedule).content
        assert answer["state"] == "done"
        assert {name: answer[name] for name in curves} == curves


def test_relevance_under_another_schedule_is_of_the_same_run_otherwise(make: Make, pipe: Any) -> None:
    pipe.scheduler = DPMSolverMultistepScheduler.from_config(pipe.scheduler.config)
    options = {"seed": 7, "guidance_scale": 3.0, "negative_prompt": "grey"}
    widget = make(pipe, prompt=PROMPT, steps=STEPS, schedule_strength=40, height=32, width=32, **options)
    before = widget.trace
    answer = work(widget, kind="relevance", schedule="late").content
    run = {"num_inference_steps": STEPS, "schedule": "late", "schedule_strength": 40, "height": 32, "width": 32}
    expected = explain.relevance(pipe, PROMPT, progress=False, **run, **options)
    np.testing.assert_allclose(answer["raw"], expected.raw[:, answer["words"]], rtol=1e-3)
    assert answer["timesteps"] != [round(float(time), 2) for time in before.timesteps]
    assert widget.trace is before
    assert len(widget.history) == 1
    (relevance,) = before.relevance
    assert (relevance.schedule, relevance.maps) == ("late", None)
    np.testing.assert_array_equal(relevance.timesteps, expected.trace.timesteps)


def notebook_call(make: Make, pipe: Any, **arguments: Any) -> Any:
    """A widget after a call of the notebook's own."""
    widget = make(pipe)
    with Tracer(pipe, view=widget):
        pipe(PROMPT, num_inference_steps=STEPS, **arguments)
    assert widget.wait(30)
    return widget


def test_relevance_of_a_call_of_the_notebook_is_sampled_with_its_seed_and_arguments(make: Make, pipe: Any) -> None:
    pipe.scheduler = DPMSolverMultistepScheduler.from_config(pipe.scheduler.config)
    arguments = {"guidance_scale": 3.0, "guidance_rescale": 0.7, "height": 32, "width": 32}
    widget = notebook_call(make, pipe, generator=torch.Generator().manual_seed(5), **arguments)
    answer = work(widget, kind="relevance", schedule="late").content
    run = {"seed": 5, "num_inference_steps": STEPS, "schedule": "late"}
    expected = explain.relevance(pipe, PROMPT, progress=False, **run, **arguments)
    np.testing.assert_allclose(answer["raw"], expected.raw[:, answer["words"]], rtol=1e-3)


def test_relevance_of_a_call_that_cannot_be_repeated_is_refused(make: Make, pipe: Any) -> None:
    pipe.scheduler = DPMSolverMultistepScheduler.from_config(pipe.scheduler.config)
    used = torch.Generator().manual_seed(5)
    torch.randn(1, generator=used)
    for arguments, reason in (
        ({}, "the seed of this run is not known"),
        ({"generator": used}, "the seed of this run is not known"),
        ({"generator": torch.Generator().manual_seed(5), "latents": torch.randn(1, 4, 8, 8)}, "latents"),
    ):
        widget = notebook_call(make, pipe, height=32, width=32, **arguments)
        answer = work(widget, kind="relevance", schedule="late").content
        assert reason in answer["error"], arguments
        assert not widget.trace.relevance


def test_the_overlay_is_attention_or_a_method(widget: DiffVis) -> None:
    for name in ("df_rise", "attention"):
        widget.overlay = name
    with pytest.raises(traitlets.TraitError, match="attention"):
        widget.overlay = "shap"
    widget.set_state({"overlay": "df_lime"})
    assert widget.overlay == "df_lime"


def test_the_overlay_can_be_a_method_that_only_the_file_has(widget: DiffVis, tmp_path: Path, make: Make) -> None:
    trace = widget.trace
    trace.saliency.append(Saliency("row_occlusion", 1, np.ones(trace.latents.shape[2:], dtype=np.float32)))
    recorded = make(open_trace(trace.save(tmp_path / "run.safetensors")))
    assert recorded.wait(30)
    recorded.overlay = "row_occlusion"
    recorded.set_state({"overlay": "attention"})
    recorded.set_state({"overlay": "row_occlusion"})
    assert recorded.overlay == "row_occlusion"
    trace.saliency.clear()
    with pytest.raises(traitlets.TraitError, match=r'"attention" or .*"df_lime"; got .row_occlusion.'):
        widget.overlay = "row_occlusion"
    with pytest.raises(traitlets.TraitError, match=r'"df_lime" or "row_occlusion"; got .lrp.'):
        recorded.overlay = "lrp"
