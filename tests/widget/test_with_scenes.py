"""DiffVis on the built-in model: loaded in the background, measured by its own CLIP, honest about unknown words."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from typing import Any

import numpy as np

import diffvis_widget as dv
from diffvis_widget.wire.packed_run import pack, unpack
from diffvis_widget.wire.shipped_run import CONCEPTS, REQUEST
from tests.widget.conftest import SECONDS, page, seen

Make = Callable[..., Any]
PROMPT = "a red circle above a zyzzyva"


def saved_scores(widget: Any, steps: int) -> dict[str, Any]:
    """The scores of all steps in a saved notebook; a meter that had to be loaded first gives the last ones late."""

    def complete(snapshot: bytes) -> list[dict[str, Any]]:
        scores = [m.content for m in unpack(snapshot or pack([])) if m.content["type"] == "scores"]
        return [content for content in scores if len(content["cosine"]) == steps]

    assert seen(widget, "_snapshot", lambda snapshot: bool(complete(snapshot))).wait(SECONDS)
    return complete(widget._snapshot)[0]


def test_without_a_pipeline_the_scenes_model_paints_and_is_measured(make: Make, tmp_path: Any) -> None:
    started = time.perf_counter()
    widget = make(prompt=PROMPT, concepts=["circle", "red"], seed=7, steps=6)
    assert widget.status in ("loading", "queued", "running")
    assert widget.wait(4 * SECONDS), (widget.status, widget._notice, time.perf_counter() - started)
    assert (widget.status, widget.error) == ("done", "")
    assert widget._can_run
    assert "star" in widget._vocabulary["shapes"]
    begun = widget.wire.of("run")[0].content
    assert begun["meter"] == "scenes CLIP"
    assert [word["text"] for word in begun["words"] if word["unknown"]] == ["zyzzyva"]
    trace = widget.trace
    expected = dv.concept_scores(trace, ["circle", "red"])
    saved = saved_scores(widget, 6)
    assert np.abs(np.array(saved["cosine"]) - expected.cosine).max() < 1e-4
    assert np.abs(np.array(saved["null_band"]) - expected.null_band).max() < 1e-4
    assert len(widget._snapshot) < 1_000_000
    assert trace.scores is not None, "what was measured is kept with the run"
    assert (trace.scores.concepts, trace.scores.meter) == (["circle", "red"], "scenes CLIP")
    assert np.abs(trace.scores.share - expected.share).max() < 1e-4

    # the same run, recorded: it knows its meter and its words without the model
    trace.save(tmp_path / "run.safetensors")
    recorded = make(dv.open_trace(tmp_path / "run.safetensors"), concepts=["circle", "red"])
    assert recorded.wait(SECONDS)
    again = saved_scores(recorded, 6)
    assert np.abs(np.array(again["cosine"]) - expected.cosine).max() < 1e-4
    words = recorded.wire.of("run")[0].content["words"]
    assert [word["text"] for word in words if word["unknown"]] == ["zyzzyva"]


def test_no_concept_of_a_failed_run_emerges_of_which_the_meter_is_not_sure(make: Make) -> None:
    pipe = dv.load()
    concepts = ["circle", "square", "red", "blue", "economy"]
    evaluations = itertools.count(1)

    def fail(*_: Any) -> None:
        if next(evaluations) > 10:
            raise RuntimeError("out of luck")

    hook = pipe.unet.register_forward_pre_hook(fail)
    widget = make(pipe, prompt=REQUEST.prompt, concepts=concepts, seed=7, steps=30)
    assert widget.wait(4 * SECONDS)
    hook.remove()
    assert widget.status == "failed"
    saved = saved_scores(widget, 10)
    cosine, (_, top) = np.array(saved["cosine"]), saved["null_band"][-1]
    assert (cosine[-1] > np.maximum(cosine[0], (top + cosine[-1].max()) / 2)).any(), "high enough without calibration"
    sure = np.array(saved["present"], float) == 1
    assert not sure.any()
    assert saved["emergence"] == [None] * 5


def test_the_run_of_the_quickstart_is_there_before_the_model(make: Make) -> None:
    widget = make(prompt=REQUEST.prompt, concepts=list(CONCEPTS), seed=REQUEST.seed)
    (recorded,) = [m.content for m in unpack(widget._snapshot) if m.content["type"] == "run"]
    assert recorded["shipped"]
    assert recorded["prompt"] == REQUEST.prompt
    page(widget, {"type": "notes", "id": 3, "run": recorded["run"], "notes": []})
    assert "shown while the model loads" in widget.wire.of("error")[0].content["message"]
    progress: list[tuple[float, str]] = []
    widget.observe(lambda change: progress.append((change["new"], widget.status)), "progress")
    assert len(widget.trace.steps) == REQUEST.steps
    *loading, loaded = [share for share, status in progress if status == "loading"]
    assert loading == sorted(loading)
    assert loaded == 0
    (live,) = [m.content for m in unpack(widget._snapshot) if m.content["type"] == "run"]
    assert "shipped" not in live
    same = ("prompt", "seed", "steps", "guidance_scale", "words", "grid", "image", "layers", "meter")
    assert {name: live[name] for name in same} == {name: recorded[name] for name in same}


def test_other_runs_of_the_built_in_model_have_no_recorded_one(make: Make) -> None:
    for options in ({"seed": 8}, {"seed": 7, "height": 96}, {"seed": 7, "steps": 4}):
        widget = make(prompt=REQUEST.prompt, **options)
        widget.stop()
        assert widget._snapshot == b""
