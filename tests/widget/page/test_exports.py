"""Files that the page asks for: their names, what they are made of, how far they are, and what is refused."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import diffvis_widget as dv
from diffvis_widget.cancellation import Cancelled
from diffvis_widget.export import offers, page_files
from diffvis_widget.export.video import find_ffmpeg
from diffvis_widget.shipped import scenes_fingerprint
from diffvis_widget.traces import Saliency, Trace
from diffvis_widget.widget.page import exports as exporting
from diffvis_widget.widget.widget import DiffVis
from tests.traces.build import fake_decoder, make_trace
from tests.widget.conftest import page

SEEN = {"step": 1, "words": ["circle", 4], "view": "prediction", "opacity": 0.5}


@pytest.mark.parametrize(
    ("prompt", "name"),
    [
        ("A red circle, above a blue square!", "a-red-circle-above-a-blue-square"),
        ("../../etc/passwd\0\n<b>", "etc-passwd-b"),
        ("Ein Kätzchen 猫", "ein-kätzchen-猫"),
        ("", "run"),
        ("?!", "run"),
        ("x" * 300, "x" * 48),
        ("word " * 100, "-".join(["word"] * 9)),
    ],
)
def test_a_prompt_becomes_a_name(prompt: str, name: str) -> None:
    assert offers.file_stem(prompt) == name


def made(trace: Trace, what: str, tell: Callable[[float], object], **over: Any) -> bytes:
    class Session:
        def trace_of(self, run: str) -> Trace:
            assert run == "r1"
            return trace

    task = {"kind": "export", "what": what, "run": "r1", **SEEN, **over}
    session: Any = Session()

    def telling(progress: float) -> None:
        tell(progress)

    return exporting.prepare_export(session, task)(telling).buffers[0]


@pytest.mark.parametrize("what", ["png", "filmstrip", "webp", "gif", "mp4", "html", "trace", "compact"])
def test_every_kind_reports_progress_and_can_be_cancelled(what: str) -> None:
    decoded: list[int] = []

    def decoder(latents: np.ndarray) -> np.ndarray:
        decoded.append(len(latents))
        return fake_decoder(latents)

    reports: list[float] = []
    assert made(make_trace(decoder=decoder), what, reports.append)
    assert reports == sorted(reports)
    assert 0 <= reports[0] <= reports[-1] <= 1
    assert len(reports) >= 2
    assert set(decoded) == {1}, "one by one, so that it can be told and stopped"

    def stop(share: float) -> None:
        raise Cancelled

    decoded.clear()
    with pytest.raises(Cancelled):
        made(make_trace(decoder=decoder), what, stop)
    assert decoded == []


def test_a_figure_is_that_of_python() -> None:
    trace, tells = make_trace(keep="heads"), [].append
    view_options = {"step": 1, "words": ["circle", 4], "opacity": 0.5}
    assert made(trace, "png", tells) == dv.export.png(trace, **view_options)
    part = {"layer": "mid.attn2", "head": 1}
    figure = made(trace, "png", tells, words=["circle"], view="change", **part)
    assert figure == dv.export.png(trace, step=1, words="circle", view="change", opacity=0.5, **part)
    trace.saliency = [Saliency("df_cam", 1, np.linspace(0, 1, 96, dtype=np.float32).reshape(8, 12))]
    laid = made(trace, "png", tells, words=[], saliency="df_cam")
    assert laid == dv.export.png(trace, step=1, saliency=trace.saliency[0], opacity=0.5)
    with pytest.raises(ValueError, match="no map of df_rise at the step with index 1"):
        made(trace, "png", tells, words=[], saliency="df_rise")
    options = {"contours": False, "shared_scale": True, "region": [0.1, 0.2, 0.5, 0.75]}
    shown: dict[str, Any] = {"contours": False, "shared_scale": True, "region": (0.1, 0.2, 0.5, 0.75)}
    assert made(trace, "png", tells, **options) == dv.export.png(trace, **view_options, **shown)
    for kind, make in (("filmstrip", dv.export.filmstrip), ("webp", dv.export.webp)):
        assert made(trace, kind, tells, **options) == make(trace, words=["circle", 4], opacity=0.5, **shown)
        moved = made(trace, kind, tells, words=[], saliency="df_cam", **options)
        assert moved == make(trace, saliency="df_cam", opacity=0.5, **shown)
    strip = made(trace, "filmstrip", tells, words=["circle"], **part)
    assert strip == dv.export.filmstrip(trace, words="circle", opacity=0.5, **part)


@pytest.mark.parametrize(
    ("over", "words"),
    [
        ({"what": "live"}, "only the built-in scenes model is small enough"),
        ({"what": "exe"}, "what must be one of 'png'"),
        ({"words": "circle"}, "an export needs a step, words, a view and an opacity"),
        ({"view": "<b>"}, "view must be one of"),
        ({"step": 99}, "out of range"),
        ({"words": ["dog"]}, "'dog' is not in the prompt"),
        ({"words": [{}]}, "word must be"),
        ({"region": [1, 2]}, "region must be"),
        ({"opacity": 3}, "opacity must be a number from 0 to 1"),
    ],
)
def test_an_impossible_file_is_refused(over: dict[str, Any], words: str) -> None:
    with pytest.raises((ValueError, LookupError, TypeError), match=words):
        made(make_trace(), **{"what": "png", "tell": lambda share: None, **over})


def test_a_trace_too_large_for_a_page_is_saved_from_a_cell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page_files, "MAX_FILE", 1000)
    with pytest.raises(ValueError, match=r"trace\.save\(path\)"):
        made(make_trace(), "trace", lambda share: None)


def test_the_page_is_told_what_can_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    trace = make_trace()
    content = offers.exports_message(3, "r1", trace).content
    assert (content["id"], content["run"]) == (3, "r1")
    assert set(content["kinds"]) == set(offers.FILE_KINDS) - {"live"}, "only the built-in model fits into a page"
    trace.meta["fingerprint"] = scenes_fingerprint()
    assert set(offers.exports_message(3, "r1", trace).content["kinds"]) == set(offers.FILE_KINDS)
    monkeypatch.setattr(offers, "find_ffmpeg", lambda: None)
    assert "mp4" not in offers.exports_message(3, "r1", trace).content["kinds"]
    assert find_ffmpeg() is not None, "the tests bring one"


def test_the_python_of_a_view_is_that_of_export_code() -> None:
    trace = make_trace()
    content = offers.source_code_message(3, "r1", trace, {**SEEN, "contours": False, "shared_scale": True}).content
    assert (content["type"], content["id"], content["run"], content["file"]) == ("source_code", 3, "r1", None)
    view_options: dict[str, Any] = {"words": ["circle", 4], "opacity": 0.5, "contours": False, "shared_scale": True}
    assert content["python"] == dv.export.code(trace, step=1, **view_options)
    del trace.meta["seed"]
    content = offers.source_code_message(3, "r1", trace, SEEN).content
    assert content["file"] == "red-circle-red-square-lost-run.safetensors"
    assert f"dv.open_trace({content['file']!r})" in content["python"]
    with pytest.raises(KeyError):
        offers.source_code_message(3, "r1", trace, {**SEEN, "words": ["'); import os; ("]})


def test_an_offline_page_has_the_python_of_runs_that_can_be_made_again() -> None:
    trace = make_trace()
    files, code = offers.offline_exports_messages([("r1", trace)])
    assert files.content["kinds"] == []
    assert (code.content["type"], code.content["view"], code.content["file"]) == ("source_code", None, None)
    assert dv.export.code(trace, step=1).startswith(code.content["python"])
    del trace.meta["seed"]
    (files,) = offers.offline_exports_messages([("r1", trace)])
    assert files.content["type"] == "exports"


def test_images_are_exact_where_the_page_has_previews(make: Callable[..., DiffVis], pipe: Any) -> None:
    """The page has previews of the run; the file has the images decoded by the VAE."""
    widget: Any = make(pipe, prompt="a red circle", steps=3)
    trace = widget.trace
    run = widget.wire.of("run")[0].content["run"]
    trace._frames._decoded["prediction"].clear()
    task = {"kind": "export", "what": "png", "run": run, "step": 1, "words": [], "view": "prediction", "opacity": 1}
    pause = threading.Event()
    while True:
        page(widget, {"type": "job", "id": 5, "task": task})
        message = widget.wire.messages[-1]
        if message.content["state"] not in ("waiting", "running"):
            break
        pause.wait(0.01)
    assert message.content["name"] == "a-red-circle-step-2.png"
    exact = trace.decode(trace.predictions[1:2])[0]
    np.testing.assert_array_equal(trace.frame("prediction", 1), exact)
    assert message.buffers[0] == dv.export.png(trace, step=1, opacity=1)
