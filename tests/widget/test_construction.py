"""DiffVis(...) either gives a working widget or leaves nothing behind: no thread, no loading model, no open comm."""

from __future__ import annotations

import gc
import threading
from typing import Any

import pytest
from diffusers import StableDiffusionPipeline
from ipywidgets import Layout
from ipywidgets.widgets import widget as ipywidgets

from diffvis_widget.widget.session.session import Session
from diffvis_widget.widget.widget import DiffVis
from tests.widget.conftest import PROMPT, SECONDS

PROJECT_THREADS = "diffvis-"


def running() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name.startswith(PROJECT_THREADS)}


def registered() -> set[str]:
    return set(ipywidgets._instances)


def refused(error: type[Exception], says: str, *arguments: Any, **options: Any) -> None:
    """The constructor raises, and afterwards there are the threads and widgets that there were before."""
    gc.collect()
    threads, widgets = running(), registered()
    with pytest.raises(error, match=says):
        DiffVis(*arguments, **options)
    for thread in running() - threads:
        thread.join(SECONDS)
    assert running() <= threads
    assert registered() <= widgets


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"schedule": "early", "steps": 300, "schedule_strength": 0}, ValueError, "repeat"),
        ({"meter": 5}, TypeError, "meter must be a ConceptMeter"),
        ({"compare": "run.safetensors"}, TypeError, "compare takes a Trace"),
        ({"steps": 0}, Exception, "steps must be"),
        ({"schedule": "soon", "steps": 300}, Exception, "schedule must be"),
        ({"layout": 5}, Exception, "layout"),
        ({"layout": {"width": 5}}, Exception, "width"),
        ({"layout": {"widht": "50%"}}, TypeError, "layout has no 'widht'; did you mean 'width'"),
        ({"tooltip": 5}, Exception, "tooltip"),
    ],
    ids=str,
)
@pytest.mark.parametrize("source", ["pipeline", "scenes"])
def test_a_bad_argument_leaves_nothing_behind(
    shared_pipe: StableDiffusionPipeline, source: str, options: dict[str, Any], error: type[Exception], says: str
) -> None:
    refused(error, says, shared_pipe if source == "pipeline" else None, prompt=PROMPT, **options)


def test_a_widget_whose_first_run_cannot_start_is_closed(
    shared_pipe: StableDiffusionPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(session: Session, request: Any) -> None:
        raise RuntimeError("no run today")

    monkeypatch.setattr(Session, "run", fail)
    refused(RuntimeError, "no run today", shared_pipe, prompt=PROMPT)


@pytest.mark.parametrize(
    ("name", "value"),
    [("layout", {"width": "50%"}), ("layout", Layout(width="50%")), ("tooltip", "a run"), ("tabbable", True)],
    ids=["layout as a dict", "layout", "tooltip", "tabbable"],
)
def test_a_trait_of_every_jupyter_widget_is_no_argument_of_the_pipeline(
    shared_pipe: StableDiffusionPipeline, name: str, value: Any
) -> None:
    widget = DiffVis(shared_pipe, **{name: value})
    shown = getattr(widget, name)
    assert (shown.width if name == "layout" else shown) == ("50%" if name == "layout" else value)
    assert widget._session.arguments == {}
    widget.close()
