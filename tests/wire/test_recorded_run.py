"""A recorded run in the widget, in a page and for hosts without widgets: all of it is shown, and no more."""

from __future__ import annotations

import base64
import gzip
import json
import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import diffvis_widget as dv
from diffvis_widget.traces import ConceptScores, Trace
from diffvis_widget.wire import images as image_codec
from diffvis_widget.wire.packed_run import Message, unpack
from tests.traces.build import make_trace
from tests.widget.conftest import SECONDS
from tests.wire.test_compact_file import large

Make = Callable[..., Any]


def scored() -> Trace:
    trace = make_trace()
    rise = np.array([[0.1, 0.2], [0.2, 0.2], [0.3, 0.1]], dtype=np.float32)
    null = np.tile(np.array([0, 0.15], dtype=np.float32), (3, 1))
    trace.scores = ConceptScores(["circle", "red"], rise, rise.copy(), null, np.array([1, np.nan], "f4"), "a meter")
    trace.note("Look", step=1, words=["red"])
    return trace


def contents(widget: Any, kind: str) -> list[dict[str, Any]]:
    return [message.content for message in unpack(widget._snapshot) if message.content["type"] == kind]


def test_scores_come_with_the_run_and_need_no_meter(make: Make) -> None:
    trace = scored()
    widget = make(trace)
    saved = threading.Event()
    widget.observe(lambda _: contents(widget, "scores") and saved.set(), "_snapshot")
    assert widget.wait(SECONDS)
    assert contents(widget, "scores") or saved.wait(SECONDS), "a busy machine saves the scores after the run"
    assert widget.concepts == ["circle", "red"]
    assert trace.scores is not None
    (scores,) = contents(widget, "scores")
    np.testing.assert_allclose(scores["cosine"], trace.scores.cosine, atol=1e-5)
    assert (scores["emergence"], scores["meter"]) == ([1, None], "a meter")
    (run,) = contents(widget, "run")
    assert run["notes"] == [{"text": "Look", "step": 1, "words": [1, 4], "region": None}]


def test_a_run_that_was_stopped_stays_one(make: Make, tmp_path: Path) -> None:
    trace = make_trace()
    trace.meta["planned_steps"] = 30
    back = dv.open_trace(trace.save(tmp_path / "run"))
    assert not back.is_complete
    widget = make(back)
    assert widget.wait(SECONDS)
    assert widget.status == "stopped"
    assert contents(widget, "run")[0]["steps"] == 30
    assert (contents(widget, "end")[0]["state"], contents(widget, "end")[0]["steps"]) == ("stopped", 3)


def test_hosts_without_widgets_get_a_filmstrip_and_a_sentence(make: Make) -> None:
    shown, _ = make(scored())._repr_mimebundle_()
    assert "application/vnd.jupyter.widget-view+json" in shown
    strip = image_codec.read(base64.b64decode(shown["image/png"]))
    width, height = strip.size
    assert width == 4 + 3 * 100
    lines = (height - (4 + 64 + 20)) / 16  # the advice below the images
    assert lines == int(lines) >= 2
    assert shown["text/plain"] == (
        "DiffVis: “Red circle, red square lost”, 3 of 3 steps, seed 7. Cosine at the last step: circle 0.30, red 0.10. "
        "Run the cell to see the interactive widget. To keep it in the notebook, choose “Save Widget State "
        "Automatically” in the menu Settings before you save."
    )


def page_of(path: Path) -> tuple[dict[str, Any], list[Message]]:
    source = path.read_text(encoding="utf-8")
    blocks = dict(re.findall(r'<script type="[^"]*" id="([^"]*)">([^<]*)</script>', source))
    return json.loads(blocks["dv-traits"]), unpack(gzip.decompress(base64.b64decode(blocks["dv-run"])))


def test_a_page_holds_what_the_widget_would_be_told(make: Make, tmp_path: Path) -> None:
    widget = make(scored())
    traits, messages = page_of(dv.to_html(widget, tmp_path / "run.html"))
    assert traits["concepts"] == ["circle", "red"]
    kinds = [message.content["type"] for message in messages]
    assert kinds == ["run", "step", "step", "step", "scores", "end", "runs", "exports", "source_code"]
    assert messages[0].content["layers"] == []
    _, whole = page_of(dv.to_html([make_trace(), scored()], tmp_path / "two.html", layers=True))
    contents = [message.content for message in whole if message.content["type"] == "layers"]
    words = [index for index, word in enumerate(scored().words) if word.kind == "word"]
    assert sorted((content["run"], content["step"], content["word"]) for content in contents) == [
        (f"recorded-{run}", step, word) for run in (1, 2) for step in range(3) for word in words
    ]
    assert dv.to_html(widget, tmp_path / "again.html").read_bytes() == (tmp_path / "run.html").read_bytes()


def test_a_page_scores_a_run_without_scores_with_the_concepts_of_the_first(tmp_path: Path) -> None:
    pipe = dv.load()
    first, second = (dv.trace(pipe, f"a {colour} circle", seed=1, num_inference_steps=2) for colour in ("red", "blue"))
    dv.concept_scores(first, ["circle", "red"])
    traits, messages = page_of(dv.to_html([first, second], tmp_path / "two.html"))
    scores = [message.content for message in messages if message.content["type"] == "scores"]
    assert [entry["run"] for entry in scores] == ["recorded-1", "recorded-2"]
    assert [entry["concepts"] for entry in [traits, *scores]] == [["circle", "red"]] * 3
    assert second.scores is None
    expected = dv.concept_scores(second, ["circle", "red"])
    np.testing.assert_allclose(scores[1]["cosine"], expected.cosine, atol=1e-5)


def test_a_page_of_a_512_pixel_run_is_under_its_bar(tmp_path: Path) -> None:
    trace = large(10)
    path = dv.to_html(trace, tmp_path / "run.html")
    assert path.stat().st_size < 3_000_000
    assert len([message for message in page_of(path)[1] if message.content["type"] == "step"]) == 10


def test_pages_that_cannot_be_written_say_why(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no finished step"):
        dv.to_html(make_trace(steps=0), tmp_path / "run.html")
    with pytest.raises(ValueError, match="there is no trace"):
        dv.to_html([], tmp_path / "run.html")
    with pytest.raises(FileNotFoundError, match="does not exist"):
        dv.to_html(make_trace(), tmp_path / "none" / "run.html")
    assert list(tmp_path.iterdir()) == []
