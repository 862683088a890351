"""A model is loaded once the page is drawn: imports keep the kernel from sending the widget."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from diffvis_widget.widget import jupyter
from diffvis_widget.widget.session import pipeline as pipeline_module
from diffvis_widget.widget.session.outbox import Outbox
from diffvis_widget.widget.session.pipeline import SessionPipeline
from diffvis_widget.widget.session.state import SessionState

SECONDS = 60


class Loading:
    """A session's pipeline that is loaded in a thread; the load itself takes no time.

    Args:
        monkeypatch: replaces the load.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.begun = threading.Event()
        self.outbox = Outbox(lambda content, buffers: None)
        self.state = SessionState(lambda name, value: None, page_is_there=self.outbox.page_is_there)

        def load(name: str | None, report: Callable[..., Any]) -> None:
            self.begun.set()

        monkeypatch.setattr(pipeline_module, "load_in_stages", load)
        self._pipeline = SessionPipeline(None, self.outbox.page_is_there)
        self.thread = threading.Thread(target=self._pipeline.load, args=[lambda **traits: None])

    def begin(self) -> None:
        self.thread.start()


@pytest.fixture
def loading(monkeypatch: pytest.MonkeyPatch) -> Loading:
    monkeypatch.setattr(pipeline_module, "PATIENCE", SECONDS)
    monkeypatch.setattr(jupyter, "_kernel", object)  # its cells are executed for somebody
    return Loading(monkeypatch)


def test_the_page_comes_before_the_load(loading: Loading) -> None:
    loading.begin()
    assert not loading.begun.wait(0.1)
    loading.outbox.hello(None, [])
    assert loading.begun.wait(SECONDS / 2)
    loading.thread.join()


def test_a_cell_that_waits_begins_the_load(loading: Loading) -> None:
    loading.begin()
    assert not loading.begun.wait(0.1)
    assert loading.state.wait(SECONDS)
    assert loading.begun.wait(SECONDS / 2)
    loading.thread.join()


def test_a_page_that_never_comes_delays_the_load_by_no_more_than_the_patience(
    loading: Loading, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline_module, "PATIENCE", 0.01)
    loading.begin()
    assert loading.begun.wait(SECONDS / 2)
    loading.thread.join()


@pytest.mark.parametrize("kernel", [None, type("Executed", (), {"_allow_stdin": False})()])
def test_without_a_page_the_load_begins_at_once(
    loading: Loading, monkeypatch: pytest.MonkeyPatch, kernel: object
) -> None:
    monkeypatch.setattr(jupyter, "_kernel", lambda: kernel)
    loading.begin()
    assert loading.begun.wait(SECONDS / 2)
    loading.thread.join()
