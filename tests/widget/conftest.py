"""A tiny real pipeline whose steps a test can hold, and widgets that are closed again."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from diffusers import StableDiffusionPipeline

from diffvis_widget.widget.widget import DiffVis
from diffvis_widget.wire.packed_run import Message
from tests import pipelines

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    import bqplot  # noqa: F401 - its own classes use a retired form of traitlets, once, when they are first imported

PROMPT = "a red circle above a blue square"
SECONDS = 60


@pytest.fixture(scope="session")
def shared_pipe() -> StableDiffusionPipeline:
    """For tests that leave it as it is."""
    return pipelines.stable_diffusion()


@pytest.fixture
def pipe() -> StableDiffusionPipeline:
    """For tests that put hooks on it."""
    return pipelines.stable_diffusion()


@dataclass
class Gate:
    """Holds a pipeline before each evaluation of its denoiser until the test lets it go on."""

    free: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    arrived: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    open: bool = False
    calls: int = 0

    def put_on(self, pipe: StableDiffusionPipeline) -> None:
        def wait(*_: Any) -> None:
            self.calls += 1
            self.arrived.release()
            if not self.open:
                assert self.free.acquire(timeout=SECONDS)

        pipe.unet.register_forward_pre_hook(wait)

    def until_held(self) -> None:
        """Wait until the pipeline stands at the gate."""
        assert self.arrived.acquire(timeout=SECONDS)

    def let(self, steps: int) -> None:
        """Let so many steps happen, and wait until the pipeline stands at the gate again."""
        for _ in range(steps):
            self.free.release()
            self.until_held()

    def let_all(self) -> None:
        self.open = True
        self.free.release()


@pytest.fixture
def gate(pipe: StableDiffusionPipeline) -> Iterator[Gate]:
    gate = Gate()
    gate.put_on(pipe)
    yield gate
    gate.open = True
    for _ in range(100):
        gate.free.release()


@dataclass
class Wire:
    """What a widget sent to its page, in order."""

    messages: list[Message] = field(default_factory=list)

    def of(self, kind: str) -> list[Message]:
        return [message for message in list(self.messages) if message.content["type"] == kind]

    def types(self) -> list[str]:
        return [message.content["type"] for message in list(self.messages)]


@pytest.fixture
def make(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., DiffVis]]:
    """Makes widgets that are closed, and whose threads have ended, when the test is over.

    ``widget.wire`` has what went to the page: there is none here, so the last call before the comm is written down.
    """
    made: list[DiffVis] = []
    wires: dict[int, Wire] = {}

    def send(widget: DiffVis, content: dict[str, Any], buffers: list[bytes]) -> None:
        wires.setdefault(id(widget), Wire()).messages.append(Message(content, tuple(buffers)))

    monkeypatch.setattr(DiffVis, "send", send)
    monkeypatch.setattr(DiffVis, "wire", property(lambda self: wires.setdefault(id(self), Wire())), raising=False)

    def build(*arguments: Any, **options: Any) -> DiffVis:
        widget = DiffVis(*arguments, **options)
        made.append(widget)
        return widget

    yield build
    for widget in made:
        session = widget._session
        widget.close()
        session.join(SECONDS)
        assert not session.alive


def page(widget: DiffVis, content: Any) -> None:
    """A message from the page, as ipywidgets delivers it."""
    widget._handle_custom_msg(content, [])


def seen(widget: DiffVis, name: str, matches: Callable[[Any], bool]) -> threading.Event:
    """An event that is set once the trait ``name`` has had a value that is ``wanted``."""
    event = threading.Event()

    def look(change: Any) -> None:
        if matches(change["new"]):
            event.set()

    widget.observe(look, name)
    if matches(getattr(widget, name)):
        event.set()
    return event
